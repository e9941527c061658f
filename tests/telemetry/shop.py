"""A service of the shop: `python shop.py SERVICE` calls a model as that service would.

Needs `traceloop-sdk` and the clients that the service imports. Environment: TRACELOOP_BASE_URL and
TRACELOOP_API_KEY say where the spans go, MODEL_API where the models are.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, task, tool, workflow

MODEL_API = os.environ["MODEL_API"]


def ask(model: str, text: str) -> Any:
    import openai

    client = openai.OpenAI(base_url=f"{MODEL_API}/v1", api_key="none")
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], temperature=0.2
    )


@agent(name="checkout_agent")
def checkout() -> None:
    import openai

    client = openai.OpenAI(base_url=f"{MODEL_API}/v1", api_key="none")
    parameters = {"type": "object", "properties": {"sku": {"type": "string"}}}
    tools: Any = [{"type": "function", "function": {"name": "stock", "parameters": parameters}}]
    messages: Any = [{"role": "user", "content": "Is A-1 in stock?"}]
    reply = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
    message = reply.choices[0].message
    for call in message.tool_calls or []:
        result = {"role": "tool", "tool_call_id": call.id, "content": stock("A-1")}
        messages += [message.model_dump(exclude_none=True), result]
    client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)


@tool(name="stock")
def stock(sku: str) -> str:
    return f"3 of {sku}"


@workflow(name="support_chat")
def shopping_assistant() -> None:
    Traceloop.set_association_properties({"user_id": "u-1", "session_id": "s-1"})
    ask("gpt-4o", "When does my order ship?")
    ask("gpt-5", "When does my order ship?")


@workflow(name="answer_search")
def search() -> None:
    ask("gpt-4o-mini", "Rewrite: teapot red big")
    retrieve("a big red teapot")
    ask("gpt-4o", "Which teapot is the biggest?")


@task(name="retrieve")
def retrieve(question: str) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{MODEL_API}/v1", api_key="none")
    client.embeddings.create(
        model="text-embedding-3-small", input=question, encoding_format="float"
    )


@agent(name="refund_agent")
def refunds() -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=MODEL_API, api_key="none")
    client.messages.create(
        model="claude-sonnet-4-5",
        max_tokens=100,
        messages=[{"role": "user", "content": "I want my money back."}],
    )


@workflow(name="email_reply")
def support() -> None:
    ask("gpt-4o-mini", "Write an email about the parcel.")


@workflow(name="sql_report")
def reports() -> None:
    ask("gpt-4o", "Write SQL for the sum of all orders.")


@workflow(name="catalog_entry")
def catalog() -> None:
    ask("gpt-4o-mini", "Describe the teapot as JSON.")


@workflow(name="other_models")
def other_models() -> None:
    """Clients whose instrumentations are older or differ."""
    import cohere
    import groq
    import mistralai
    import ollama

    messages: Any = [{"role": "user", "content": "When does my order ship?"}]
    cohere.ClientV2(base_url=MODEL_API, api_key="none").chat(model="command-a", messages=messages)
    groq.Groq(base_url=MODEL_API, api_key="none").chat.completions.create(
        model="llama-3.3-70b", messages=messages
    )
    mistralai.Mistral(server_url=MODEL_API, api_key="none").chat.complete(
        model="mistral-large", messages=messages
    )
    ollama.Client(host=MODEL_API).chat(model="llama3.2", messages=messages)


SERVICES = {
    "checkout": checkout,
    "shopping-assistant": shopping_assistant,
    "search": search,
    "refunds": refunds,
    "support": support,
    "reports": reports,
    "catalog": catalog,
    "other-models": other_models,
}


if __name__ == "__main__":
    name = sys.argv[1]
    Traceloop.init(app_name=name, resource_attributes={"deployment.environment.name": "production"})
    SERVICES[name]()
