"""The service's routes, the keys of `Emulator.requests` and the values of `Fault.route`."""

from __future__ import annotations

SETUPS = "/v2/auto-monitor-setups"
CREATE_ROUTE = f"POST {SETUPS}"
LIST_ROUTE = f"GET {SETUPS}"
GET_ROUTE = f"GET {SETUPS}/{{external_id}}"
UPDATE_ROUTE = f"PUT {SETUPS}/{{external_id}}"
UPSERT_ROUTE = f"PUT {SETUPS}/by-external-id/{{external_id}}"
DELETE_ROUTE = f"DELETE {SETUPS}/{{external_id}}"
BULK_ROUTE = f"POST {SETUPS}/bulk"
TRACES_ROUTE = "POST /v1/traces"
METRICS_ROUTE = "POST /v1/metrics"
SPANS_ROUTE = "GET /v2/warehouse/spans"

ROUTES = (
    CREATE_ROUTE,
    LIST_ROUTE,
    GET_ROUTE,
    UPDATE_ROUTE,
    UPSERT_ROUTE,
    DELETE_ROUTE,
    BULK_ROUTE,
    TRACES_ROUTE,
    METRICS_ROUTE,
    SPANS_ROUTE,
)

#: The key of requests that match no route.
UNMATCHED = "unmatched"
