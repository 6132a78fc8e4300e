/* Letters count like the columns of a table sheet: a..z, aa, ab, ... */
#include "vbd_device.h"

#include <string.h>

static bool parse_decimal(const char *text, int *number)
{
    int value = 0;
    if (text[0] == '0' && text[1])
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (*text - '0');
        if (value > VBD_DEVICE_MAX)
            return false;
    }
    *number = value;
    return true;
}

static bool parse_letters(const char *text, int *number)
{
    int value = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < 'a' || *text > 'z')
            return false;
        value = value * 26 + (*text - 'a' + 1);
        if (value - 1 > VBD_DEVICE_MAX)
            return false;
    }
    *number = value - 1;
    return true;
}

bool vbd_device_parse(const char *text, int *number)
{
    static const char *const prefixes[] = {"xvd", "sd", "hd"};
    if (!*text)
        return false;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0)
            return parse_letters(text + strlen(prefixes[i]), number);
    return parse_decimal(text, number);
}

char *vbd_device_name(int number, char out[static VBD_DEVICE_NAME_SIZE])
{
    char letters[VBD_DEVICE_NAME_SIZE];
    int count = 0;
    for (int rest = number + 1; rest > 0 && count < 4; rest = (rest - 1) / 26)
        letters[count++] = (char)('a' + (rest - 1) % 26);
    memcpy(out, "xvd", 3);
    for (int i = 0; i < count; i++)
        out[3 + i] = letters[count - 1 - i];
    out[3 + count] = '\0';
    return out;
}
