"""The monitors of a shop: one resource for the checkout agent, a group for the others."""

import pulumi
import pulumi_traceloop as traceloop
from pulumi_traceloop import AutoMonitorSetupArgs, EvaluatorConfigArgs, resource, span

config = pulumi.Config()
chat_model = config.require("chatModel")
house_evaluator = config.get("houseEvaluator")

PRODUCTION = resource("deployment.environment.name").equals("production")


def service(name: str) -> traceloop.SelectorRuleArgs:
    return resource("service.name").equals(name)


# A single setup has its own row in the preview, and other resources can depend on it.
checkout = traceloop.AutoMonitorSetup(
    "checkout-agent",
    selector=[
        span("gen_ai.provider.name").equals("openai"),
        resource("service.name").is_in("checkout", "cart"),
        PRODUCTION,
    ],
    evaluators=["agent-tool-error-detector", "agent-efficiency"],
)

# A group goes through the bulk endpoint.
monitors = traceloop.AutoMonitorSetupGroup(
    "monitors",
    setups={
        "assistant-quality": AutoMonitorSetupArgs(
            selector=[
                service("shopping-assistant"),
                span("gen_ai.request.model").equals(chat_model),
                PRODUCTION,
            ],
            evaluators=["answer-relevancy", "faithfulness", "instruction-adherence"],
        ),
        "assistant-safety": AutoMonitorSetupArgs(
            selector=[service("shopping-assistant"), PRODUCTION],
            evaluators=["toxicity-detector", "profanity-detector", "sexism-detector"],
        ),
        "assistant-conversations": AutoMonitorSetupArgs(
            selector=[service("shopping-assistant"), PRODUCTION],
            evaluator_configs=[
                EvaluatorConfigArgs("conversation-quality", scope="session"),
                EvaluatorConfigArgs("intent-change", scope="session"),
                EvaluatorConfigArgs("tone-detection", scope="trace"),
            ],
        ),
        "assistant-canary": AutoMonitorSetupArgs(
            selector=[
                service("shopping-assistant"),
                span("gen_ai.request.model").not_equals(chat_model),
            ],
            evaluators=["answer-relevancy", "prompt-perplexity"],
        ),
        "search-rewrites": AutoMonitorSetupArgs(
            selector=[service("search"), span("gen_ai.operation.name").equals("chat")],
            evaluators=["instruction-adherence", "word-count"],
        ),
        "search-answers": AutoMonitorSetupArgs(
            selector=[service("search"), span("traceloop.workflow.name").equals("answer_search")],
            evaluators=["context-relevance", "faithfulness", "answer-completeness"],
        ),
        "refunds": AutoMonitorSetupArgs(
            selector=[service("refunds"), PRODUCTION],
            evaluators=["agent-efficiency", *([house_evaluator] if house_evaluator else [])],
        ),
        "support-email": AutoMonitorSetupArgs(
            selector=[service("support"), span("traceloop.workflow.name").contains("email")],
            evaluators=["tone-detection", "pii-detector", "profanity-detector"],
        ),
        # A plain dict works too, with the names of the API.
        "pii-everywhere": {
            "selector": [
                {
                    "key": "service.name",
                    "source": "resource_attributes",
                    "operator": "not_in",
                    "values": ["fraud-review", "kyc"],
                },
            ],
            "evaluators": ["pii-detector", "secrets-detector"],
        },
        "prompt-injection": AutoMonitorSetupArgs(
            selector=[span("gen_ai.input.messages").exists(), PRODUCTION],
            evaluators=["prompt-injection"],
        ),
        "reports-sql": AutoMonitorSetupArgs(
            selector=[service("reports"), span("gen_ai.output.messages").contains("SELECT")],
            evaluators=["sql-validator"],
        ),
        "catalog-json": AutoMonitorSetupArgs(
            selector=[
                service("catalog"),
                span("gen_ai.request.model").is_in("gpt-4o-mini", "o4-mini"),
            ],
            evaluators=["json-validator", "char-count"],
        ),
    },
)

pulumi.export("checkout_setup_id", checkout.setup_id)
pulumi.export("setup_ids", monitors.setup_ids)
