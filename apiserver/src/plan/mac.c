#include "mac.h"

#include <base/mem.h>
#include <base/secret.h>
#include <ctype.h>
#include <stdio.h>

void mac_from_seed(const char *seed, const char *device, char out[static MAC_TEXT_SIZE])
{
    char hash[SHA256_TEXT_SIZE];
    AUTO_FREE char *text = xasprintf("%s/%s", seed, device);
    sha256_text(text, strlen(text), hash);
    unsigned first = 0;
    sscanf(hash, "%2x", &first);
    first = (first & 0xfcu) | 0x02u; /* unicast, locally administered */
    snprintf(out, MAC_TEXT_SIZE, "%02x:%.2s:%.2s:%.2s:%.2s:%.2s", first, hash + 2, hash + 4, hash + 6,
             hash + 8, hash + 10);
}

bool mac_parse(const char *text, char out[static MAC_TEXT_SIZE])
{
    bool zero = true;
    if (strlen(text) != MAC_TEXT_SIZE - 1)
        return false;
    for (size_t i = 0; i < MAC_TEXT_SIZE - 1; i++) {
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
            return false;
        if (i % 3 != 2 && text[i] != '0')
            zero = false;
    }
    if (zero || (strchr("13579bdfBDF", text[1]) != NULL))
        return false;
    for (size_t i = 0; i < MAC_TEXT_SIZE; i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    return true;
}
