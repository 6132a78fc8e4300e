/* Which USB devices guests may have. */
#include "devices.h"
#include <base/mem.h>
#include <ctype.h>
#include <stdio.h>

/* What a host needs for itself stays: hubs, keyboards and mice that one boots with, radios, readers of smart
 * cards, what brings network or screens. */
static const char usual[] = "DENY: class=09\n"
                            "DENY: class=03 subclass=01 prot=01\n"
                            "DENY: class=03 subclass=01 prot=02\n"
                            "DENY: class=02\n"
                            "DENY: class=0a\n"
                            "DENY: class=0b\n"
                            "DENY: class=e0\n"
                            "DENY: class=ef subclass=04\n"
                            "DENY: vid=17e9\n"
                            "ALLOW:\n";

static int *slot(struct usb_rule *rule, const char *name)
{
    const struct {
        const char *name;
        int *value;
    } slots[] = {{"vid", &rule->vendor}, {"pid", &rule->product},       {"rel", &rule->release},
                 {"class", &rule->cls},  {"subclass", &rule->subclass}, {"prot", &rule->protocol}};
    for (size_t i = 0; i < ARRAY_LEN(slots); i++)
        if (streq(slots[i].name, name))
            return slots[i].value;
    return NULL;
}

static bool take_condition(struct usb_rule *rule, char *word)
{
    char *equals = strchr(word, '='), *end;
    if (!equals)
        return false;
    *equals = '\0';
    int *value = slot(rule, word);
    unsigned long n = strtoul(equals + 1, &end, 16);
    if (!value || !isxdigit((unsigned char)equals[1]) || *end || n > 0xffff)
        return false;
    *value = (int)n;
    return true;
}

/* 1: a rule; 0: nothing; -1: wrong. */
static int take_line(char *line, struct usb_rule *rule)
{
    line[strcspn(line, "#")] = '\0';
    line += strspn(line, " \t\r");
    if (!*line)
        return 0;
    *rule = (struct usb_rule){false, -1, -1, -1, -1, -1, -1};
    rule->allow = strncmp(line, "ALLOW:", 6) == 0;
    if (!rule->allow && strncmp(line, "DENY:", 5) != 0)
        return -1;
    char *rest = line + (rule->allow ? 6 : 5), *word;
    while ((word = strsep(&rest, " \t\r")))
        if (*word && !take_condition(rule, word))
            return -1;
    return 1;
}

int usb_policy_parse(const char *text, struct usb_policy *out, struct hv_err *err)
{
    AUTO_FREE char *copy = xstrdup(text ? text : usual);
    char *rest = copy, *line;
    out->count = 0;
    for (int number = 1; (line = strsep(&rest, "\n")); number++) {
        struct usb_rule rule;
        int rc = take_line(line, &rule);
        if (rc < 0 || (rc > 0 && out->count == USB_POLICY_RULES))
            return hv_fail(
                err, HV_ERR_KIND_BAD_ARGUMENT,
                "Line %d of the policy of USB devices is none: ALLOW: or DENY: with vid=, pid=, rel=, "
                "class=, subclass= and prot=, at most %d of them.",
                number, USB_POLICY_RULES);
        if (rc > 0)
            out->rules[out->count++] = rule;
    }
    return 0;
}

static bool fits(int wanted, int value)
{
    return wanted < 0 || wanted == value;
}

static bool rule_fits(const struct usb_rule *rule, const struct usb_identity *device)
{
    if (!fits(rule->vendor, device->vendor) || !fits(rule->product, device->product) ||
        !fits(rule->release, device->release))
        return false;
    if (rule->cls < 0 && rule->subclass < 0 && rule->protocol < 0)
        return true;
    for (size_t i = 0; i < device->count; i++)
        if (fits(rule->cls, device->interfaces[i].cls) &&
            fits(rule->subclass, device->interfaces[i].subclass) &&
            fits(rule->protocol, device->interfaces[i].protocol))
            return true;
    return false;
}

bool usb_policy_allows(const struct usb_policy *policy, const struct usb_identity *device)
{
    for (size_t i = 0; i < policy->count; i++)
        if (rule_fits(&policy->rules[i], device))
            return policy->rules[i].allow;
    return false;
}
