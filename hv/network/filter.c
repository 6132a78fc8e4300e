/* What a guest's card may send, as rules of nftables on its tap: what does not pass never reaches the bridge.
 * Of the frames that come from there, only those with a tag that a trunk lacks are kept from the guest.
 * Each tap has a table of its own, under its own name, which no other tap ever gets. */
#include "filter.h"
#include <arpa/inet.h>
#include <base/buf.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define NFT_MS 10000
#define RATE_MAX_KBYTES 100000000
#define BURST_MIN 131072 /* bytes: frames of up to 64 KiB come in one piece */
#define LIST_MAX (1 << 20)

static bool is_mac(const char *text)
{
    unsigned b[6];
    char rest;
    return strlen(text) == 17 &&
           sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) == 6;
}

static int check_addresses(int family, const char *const *list, size_t count, struct network_error *error)
{
    unsigned char bytes[16];
    for (size_t i = 0; i < count; i++)
        if (inet_pton(family, list[i], bytes) != 1)
            return network_fail(error, NETWORK_BAD_NAME, "An address that a card may use has the form %s.",
                                family == AF_INET ? "192.0.2.5" : "2001:db8::5");
    return 0;
}

static void put_set(struct buf *out, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(out, "%s%s", i ? ", " : "{ ", list[i]);
    buf_printf(out, " }");
}

/* The addresses as numbers: what neighbour discovery speaks of has no name in nft's language. */
static void put_numbers(struct buf *out, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char bytes[16] = {0};
        inet_pton(AF_INET6, list[i], bytes);
        buf_printf(out, "%s0x", i ? ", " : "{ ");
        for (size_t k = 0; k < sizeof(bytes); k++)
            buf_printf(out, "%02x", bytes[k]);
    }
    buf_printf(out, " }");
}

#define RULE "    "

#define TAG_MAX 4094

static int check_trunks(const struct network_card *card, struct network_error *error)
{
    for (size_t i = 0; i < card->trunk_count; i++) {
        char *end;
        unsigned long tag = strtoul(card->trunks[i], &end, 10);
        if (card->trunks[i][0] < '0' || card->trunks[i][0] > '9' || *end || tag > TAG_MAX)
            return network_fail(error, NETWORK_BAD_NAME, "A tag is from 0 to %d.", TAG_MAX);
    }
    return 0;
}

/* Frames of other tags are dropped, both on their way from the guest and to it. */
static void put_trunks(struct buf *out, const struct network_card *card)
{
    bool untagged = false;
    size_t tags = 0;
    for (size_t i = 0; i < card->trunk_count; i++) {
        if (strtoul(card->trunks[i], NULL, 10) == 0) {
            untagged = true;
            continue;
        }
        buf_printf(out, "%s%s", tags++ ? ", " : RULE "ether type 8021q vlan id { ", card->trunks[i]);
    }
    if (tags)
        buf_printf(out, " } return\n");
    /* Tag 0 marks a priority alone: such a frame belongs to no VLAN. */
    if (untagged)
        buf_printf(out, RULE "ether type 8021q vlan id 0 return\n" RULE
                             "ether type != { 8021q, 8021ad } return\n");
    buf_printf(out, RULE "drop\n");
}

static void put_lock(struct buf *out, const struct network_card *card)
{
    buf_printf(out, "  chain lock {\n" RULE "ether saddr != %s drop\n", card->mac);
    buf_printf(out, RULE "ether type arp arp saddr ether != %s drop\n", card->mac);
    if (card->ipv4_count) {
        buf_printf(out, RULE "ether type arp arp saddr ip ");
        put_set(out, card->ipv4, card->ipv4_count);
        buf_printf(out, " return\n" RULE "ether type ip ip saddr ");
        put_set(out, card->ipv4, card->ipv4_count);
        buf_printf(out, " return\n" RULE
                        "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 "
                        "return\n");
    }
    if (card->ipv6_count) {
        buf_printf(out, RULE "ether type ip6 icmpv6 type nd-neighbor-advert @th,64,128 != ");
        put_numbers(out, card->ipv6, card->ipv6_count);
        buf_printf(out, " drop\n" RULE "ether type ip6 ip6 saddr ");
        put_set(out, card->ipv6, card->ipv6_count);
        buf_printf(out, " return\n" RULE
                        "ether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,128 ");
        put_numbers(out, card->ipv6, card->ipv6_count);
        buf_printf(out, " return\n");
    }
    buf_printf(out, RULE "drop\n  }\n");
}

int network_filter_text(const char *tap, const struct network_card *card, char **out,
                        struct network_error *error)
{
    struct buf text = BUF_INIT;
    bool locked = card->locking == NETWORK_LOCKED, limited = card->rate_kbytes > 0;
    bool trunked = card->trunk_count > 0;
    if (card->rate_kbytes < 0 || card->rate_kbytes > RATE_MAX_KBYTES)
        return network_fail(error, NETWORK_BAD_NAME, "A card's rate is from 1 to %d KiB in a second.",
                            RATE_MAX_KBYTES);
    if (!is_mac(card->mac))
        return network_fail(error, NETWORK_BAD_NAME, "A card's address has the form 02:00:00:00:00:01.");
    if (check_addresses(AF_INET, card->ipv4, card->ipv4_count, error) < 0 ||
        check_addresses(AF_INET6, card->ipv6, card->ipv6_count, error) < 0)
        return -1;
    if (check_trunks(card, error) < 0)
        return -1;
    if (!locked && !limited && !trunked) {
        *out = NULL;
        return 0;
    }
    buf_printf(&text, "table netdev %s {\n", tap);
    if (locked)
        put_lock(&text, card);
    if (trunked) {
        buf_printf(&text, "  chain trunk {\n");
        put_trunks(&text, card);
        buf_printf(&text,
                   "  }\n  chain network {\n" RULE
                   "type filter hook egress device \"%s\" priority 0; policy accept;\n" RULE
                   "jump trunk\n  }\n",
                   tap);
    }
    buf_printf(&text,
               "  chain guest {\n" RULE "type filter hook ingress device \"%s\" priority 0; policy accept;\n",
               tap);
    if (trunked)
        buf_printf(&text, RULE "jump trunk\n");
    if (locked)
        buf_printf(&text, RULE "jump lock\n");
    if (limited) {
        long long burst = card->rate_kbytes * 1024 / 8;
        buf_printf(&text, RULE "limit rate over %lld kbytes/second burst %lld bytes drop\n",
                   (long long)card->rate_kbytes, burst < BURST_MIN ? BURST_MIN : burst);
    }
    buf_printf(&text, "  }\n}\n");
    *out = buf_take(&text);
    return 0;
}

/* ---- nft(8) ---- */

/* Its output; NULL: it failed. `missing` says that the program is not there. */
static char *run_nft(const char *const *argv, const char *input, bool *missing, struct network_error *error)
{
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    const struct proc_run_options options = {.timeout_ms = NFT_MS, .capture_max = LIST_MAX};
    int fd AUTO_CLOSE = memfd_create("rules", MFD_CLOEXEC);
    *missing = false;
    if (fd < 0 || write(fd, input, strlen(input)) != (ssize_t)strlen(input) || lseek(fd, 0, SEEK_SET) < 0) {
        network_fail(error, NETWORK_SYSTEM, "The rules of a card cannot be written.");
        return NULL;
    }
    struct proc_spec spec = {.argv = argv, .stdin_fd = fd};
    if (proc_run(&spec, &options, &result) < 0) {
        *missing = true;
        network_fail(
            error, NETWORK_NOT_ALLOWED,
            "The program nft is missing on the host (package nftables): it keeps the rules of cards.");
        return NULL;
    }
    if (!proc_ok(&result)) {
        log_warn("network", "nft refused the rules of a card", "said",
                 result.err.data ? result.err.data : "");
        network_fail(error, NETWORK_SYSTEM, "nft refused the rules of a card; the agent's log says why.");
        return NULL;
    }
    return result.out.data ? xstrndup(result.out.data, result.out.len) : xstrdup("");
}

/* Commands that delete the tables of taps that are gone. */
static void put_stale(struct buf *out, const char *tables)
{
    char name[11];
    for (const char *line = tables; line && *line;) {
        if (sscanf(line, "table netdev " TAP_PREFIX "%10[0-9a-f]", name) == 1) {
            char tap[NETWORK_NAME_SIZE];
            snprintf(tap, sizeof(tap), TAP_PREFIX "%s", name);
            if (!if_nametoindex(tap))
                buf_printf(out, "delete table netdev %s\n", tap);
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
}

static _Atomic bool used;

bool network_filters_used(void)
{
    return used;
}

static int load(const char *text, bool *missing, struct network_error *error)
{
    static const char *const read_in[] = {"nft", "-f", "-", NULL};
    char *said AUTO_FREE = run_nft(read_in, text, missing, error);
    return said ? 0 : -1;
}

int filter_apply(const char *tap, const struct network_card *card, bool fresh, struct network_error *error)
{
    char *rules AUTO_FREE = NULL;
    struct buf text AUTO_BUF = BUF_INIT;
    bool missing;
    if (network_filter_text(tap, card, &rules, error) < 0)
        return -1;
    if (!rules && fresh)
        return 0; /* a new tap without rules: most are */
    used = used || rules;
    if (!fresh)
        buf_printf(&text, "add table netdev %s\ndelete table netdev %s\n", tap, tap);
    buf_printf(&text, "%s", rules ? rules : "");
    /* Without nft there are none to remove. */
    return load(text.data, &missing, error) == 0 || (missing && !rules) ? 0 : -1;
}

void network_filters_sweep(void)
{
    static const char *const list[] = {"nft", "list", "tables", "netdev", NULL};
    struct network_error error;
    bool missing;
    struct buf text AUTO_BUF = BUF_INIT;
    char *tables AUTO_FREE = run_nft(list, "", &missing, &error);
    put_stale(&text, tables);
    if (text.len && load(text.data, &missing, &error) < 0)
        log_warn("network", "rules of taps that are gone stay", "why", error.text);
}
