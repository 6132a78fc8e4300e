/* The text of openapi/openapi.json: what GET /api/v1/openapi.json answers. Constant; any thread. */
#pragma once

extern const char model_openapi_json[], model_openapi_json_end[];
