"""A model's API on loopback: responses in the shapes of OpenAI, Anthropic, Cohere and Ollama."""

from __future__ import annotations

import json
from typing import Any

from tests.support.service import Received, Service, response

#: The model's response to a prompt with this word.
_REPLIES = {
    "SQL": "SELECT sum(total) FROM orders",
    "JSON": '{"name": "Teapot", "price": 20}',
    "email": "Dear customer, your parcel is on its way.",
}


class ModelApi(Service):
    """Responds to prompts; its URL has no path."""

    def reply(self, received: Received) -> bytes:
        body = json.loads(received.body)
        name = received.target.rstrip("/").rpartition("/")[2]
        prefix = received.target.split("/")[1]
        reply = _SHAPES[prefix if prefix in _SHAPES else name](body, _text_for(body))
        return response(200, reply, {"Content-Type": "application/json"})


def _text_for(body: dict[str, Any]) -> str:
    asked = json.dumps(body.get("messages", body.get("message", "")))
    return next((reply for word, reply in _REPLIES.items() if word in asked), "It ships today.")


def _openai_chat(body: dict[str, Any], text: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    finish = "stop"
    last = body["messages"][-1]
    if body.get("tools") and last["role"] == "user":
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"sku": "A-1"}'}
        call = {"id": "call_1", "type": "function", "function": function}
        message, finish = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_780_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
    }


def _openai_embeddings(body: dict[str, Any], _: str) -> dict[str, Any]:
    return {
        "object": "list",
        "model": body["model"],
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


def _anthropic(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 12, "output_tokens": 5},
    }


def _cohere(_: dict[str, Any], text: str) -> dict[str, Any]:
    tokens = {"input_tokens": 12, "output_tokens": 5}
    return {
        "id": "1",
        "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
        "usage": {"billed_units": tokens, "tokens": tokens},
    }


def _ollama(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {
        "model": body["model"],
        "created_at": "2026-05-28T20:26:40Z",
        "message": {"role": "assistant", "content": text},
        "done": True,
        "done_reason": "stop",
        "total_duration": 5_000_000,
        "prompt_eval_count": 12,
        "eval_count": 5,
    }


#: By the first part of a path (Cohere's and Ollama's), else by its last.
_SHAPES = {
    "v2": _cohere,
    "api": _ollama,
    "completions": _openai_chat,
    "embeddings": _openai_embeddings,
    "messages": _anthropic,
}
