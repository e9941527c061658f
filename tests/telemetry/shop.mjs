// A service of the shop in JavaScript: `node shop.mjs SERVICE`, with the environment of shop.py.

import * as traceloop from "@traceloop/node-server-sdk";
import * as anthropicModule from "@anthropic-ai/sdk";
import OpenAI from "openai";

const service = process.argv[2];
traceloop.initialize({
  appName: service,
  baseUrl: process.env.TRACELOOP_BASE_URL,
  apiKey: process.env.TRACELOOP_API_KEY,
  disableBatch: true,
  silenceInitializationMessage: true,
  instrumentModules: { openAI: OpenAI, anthropic: anthropicModule },
});

const openai = new OpenAI({ baseURL: `${process.env.MODEL_API}/v1`, apiKey: "none" });
const anthropic = new anthropicModule.Anthropic({ baseURL: process.env.MODEL_API, apiKey: "none" });

const ask = (model, content) =>
  openai.chat.completions.create({ model, messages: [{ role: "user", content }], temperature: 0.2 });

const services = {
  "shopping-assistant": () =>
    traceloop.withAssociationProperties({ user_id: "u-1" }, () =>
      traceloop.withWorkflow({ name: "support_chat" }, async () => {
        await traceloop.withTask({ name: "answer" }, () => ask("gpt-4o", "When does my order ship?"));
      }),
    ),
  refunds: () =>
    traceloop.withAgent({ name: "refund_agent" }, () =>
      anthropic.messages.create({
        model: "claude-sonnet-4-5",
        max_tokens: 100,
        messages: [{ role: "user", content: "I want my money back." }],
      }),
    ),
};

await services[service]();
await traceloop.forceFlush();
