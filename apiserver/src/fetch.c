/* Which addresses the server may fetch from: RFC 6890's special ones are refused unless a rule names them. */
#include "fetch.h"

#include "certificates.h"
#include <arpa/inet.h>
#include <base/mem.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/mman.h>

#define RULES_MAX 256

/* IPv4 addresses stand as ::ffff:a.b.c.d, so that one comparison serves both. */
struct net {
    uint8_t address[16];
    unsigned bits;
};

struct fetch_rules {
    struct net *allowed;
    size_t count;
};

/* ---- networks as text ---- */

static void map_v4(const void *v4, uint8_t out[static 16])
{
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, v4, 4);
}

static bool parse_address(const char *text, struct net *out, unsigned *width)
{
    uint8_t v4[4];
    *width = inet_pton(AF_INET, text, v4) == 1 ? 32 : 128;
    if (*width == 32)
        map_v4(v4, out->address);
    return *width == 32 || inet_pton(AF_INET6, text, out->address) == 1;
}

/* "10.0.0.0/8"; one address without the slash. */
static bool parse_net(const char *text, struct net *out)
{
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    unsigned width;
    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!parse_address(address, out, &width))
        return false;
    char *end = NULL;
    unsigned long bits = slash ? strtoul(slash + 1, &end, 10) : width;
    if (slash && (slash[1] < '0' || slash[1] > '9' || *end))
        return false;
    out->bits = (unsigned)(bits + 128 - width);
    return bits <= width;
}

static bool covers(const struct net *net, const uint8_t address[static 16])
{
    unsigned whole = net->bits / 8, rest = net->bits % 8;
    if (memcmp(net->address, address, whole) != 0)
        return false;
    return rest == 0 || ((net->address[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

/* ---- the rules ---- */

struct fetch_rules *fetch_rules_new(const char *allow, char error[static 160])
{
    struct fetch_rules *rules = xcalloc(1, sizeof(*rules));
    AUTO_FREE char *copy = xstrdup(allow ? allow : "");
    char *save = NULL;
    for (char *word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save)) {
        rules->allowed = xreallocarray(rules->allowed, rules->count + 1, sizeof(*rules->allowed));
        if (rules->count < RULES_MAX && parse_net(word, &rules->allowed[rules->count])) {
            rules->count++;
            continue;
        }
        snprintf(error, 160, "'%.80s' is no network like 10.0.0.0/8 or fd00::/8, or there are too many",
                 word);
        fetch_rules_free(rules);
        return NULL;
    }
    return rules;
}

void fetch_rules_free(struct fetch_rules *rules)
{
    if (!rules)
        return;
    free(rules->allowed);
    free(rules);
}

/* Special IPv4 networks, and all of IPv6 but global unicast; of that what has a meaning of its own. */
static const char *const special[] = {
    "0.0.0.0/8",      "10.0.0.0/8",   "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24",   "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",  "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/3",  "2001::/23",      "2001:db8::/32",  "3fff::/20",
};

static bool is_special(const uint8_t address[static 16])
{
    static const struct net mapped = {{[10] = 0xff, [11] = 0xff}, 96}, global = {{0x20}, 3};
    if (!covers(&mapped, address) && !covers(&global, address))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(special); i++) {
        struct net net;
        if (parse_net(special[i], &net) && covers(&net, address))
            return true;
    }
    return false;
}

/* An IPv4 address inside an IPv6 one leads there: by a translator (64:ff9b::/96) or a tunnel (2002::/16). */
static bool inner_address(const uint8_t address[static 16], uint8_t out[static 16])
{
    static const struct net translated = {{0x00, 0x64, 0xff, 0x9b}, 96}, tunnel = {{0x20, 0x02}, 16};
    if (covers(&translated, address))
        map_v4(address + 12, out);
    else if (covers(&tunnel, address))
        map_v4(address + 2, out);
    else
        return false;
    return true;
}

static bool is_allowed(const struct fetch_rules *rules, const uint8_t address[static 16])
{
    uint8_t inner[16];
    for (size_t i = 0; rules && i < rules->count; i++)
        if (covers(&rules->allowed[i], address))
            return true;
    return inner_address(address, inner) ? is_allowed(rules, inner) : !is_special(address);
}

bool fetch_allowed(const struct fetch_rules *rules, const struct sockaddr *to)
{
    uint8_t address[16];
    if (to->sa_family == AF_INET)
        map_v4(&((const struct sockaddr_in *)to)->sin_addr, address);
    else if (to->sa_family == AF_INET6)
        memcpy(address, &((const struct sockaddr_in6 *)to)->sin6_addr, 16);
    else
        return false;
    return is_allowed(rules, address);
}

/* ---- who sends ---- */

char *fetch_resolve(const struct fetch_rules *rules, const char *host, int port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char *out = NULL;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return NULL;
    for (const struct addrinfo *one = found; one && !out; one = one->ai_next) {
        char text[NI_MAXHOST];
        if (fetch_allowed(rules, one->ai_addr) &&
            getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0)
            out = xasprintf(one->ai_family == AF_INET6 ? "[%s]:%d" : "%s:%d", text, port);
    }
    freeaddrinfo(found);
    return out;
}

int fetch_trusted_file(const struct snapshot *snap, char path[static 32])
{
    AUTO_FREE char *pem = certificates_trusted(snap, 0);
    size_t len = pem ? strlen(pem) : 0;
    int fd = len ? memfd_create("trusted", MFD_CLOEXEC) : -1;
    if (fd < 0)
        return -1;
    if (write(fd, pem, len) != (ssize_t)len) {
        close(fd);
        return -1;
    }
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

/* ---- a fetch ---- */

static bool ask_rules(void *arg, const struct sockaddr *to)
{
    return fetch_allowed(arg, to);
}

int fetch_open(struct server *server, const char *url, const _Atomic bool *cancel, struct http_fetch **out,
               struct http_error *error)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_FREE char *trusted = certificates_trusted(snap, 0);
    const struct http_fetch_config config = {
        .url = url,
        .allow = ask_rules,
        .arg = server->fetch_rules,
        .ca_pem = trusted,
        .timeout_ms = FETCH_TIME_MAX_MS,
        .size_max = FETCH_SIZE_MAX,
        .cancel = cancel,
    };
    return http_fetch_open(&config, out, error);
}
