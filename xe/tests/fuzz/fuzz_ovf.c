/* Fuzz target (libFuzzer): OVF descriptions. A description or a problem, never both, never
 * neither. */
#include <base/mem.h>
#include <guests.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *problem = NULL, *text = xmalloc(len + 1);
    memcpy(text, data, len);
    text[len] = '\0';
    json_t *guest = guest_from_ovf(text, len, &problem);
    if (!guest == !problem)
        abort();
    json_decref(guest);
    return 0;
}
