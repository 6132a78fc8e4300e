/* The published description of REST, as it stands in openapi/openapi.json. */
#include <model/openapi_json.h>

__asm__(".section .rodata\n"
        ".global model_openapi_json\n"
        "model_openapi_json:\n"
        ".incbin \"" OPENAPI_JSON "\"\n"
        ".global model_openapi_json_end\n"
        "model_openapi_json_end:\n"
        ".byte 0\n"
        ".previous\n");
