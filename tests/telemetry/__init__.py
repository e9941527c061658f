"""A shop's LLM features, instrumented with Traceloop's SDKs, and the model API that they call.

`shop` and `shop.mjs` run in environments of their own, which have an SDK.
"""
