/* Further machines and people reach the server by an address that its first start may not have known. */
#include "shown_leaf.h"

#include "certificates.h"
#include <arpa/inet.h>
#include <base/listen.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

static void add(char ***list, const char *text)
{
    size_t count = 0;
    for (; *list && (*list)[count]; count++)
        if (streq((*list)[count], text))
            return;
    *list = xreallocarray(*list, count + 2, sizeof(**list));
    (*list)[count] = xstrdup(text);
    (*list)[count + 1] = NULL;
}

/* One that others reach, as text. */
static bool reachable(const struct ifaddrs *at, bool v6, char out[static INET6_ADDRSTRLEN])
{
    if (!at->ifa_addr || at->ifa_flags & IFF_LOOPBACK || !(at->ifa_flags & IFF_UP))
        return false;
    if (at->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)at->ifa_addr;
        return inet_ntop(AF_INET, &v4->sin_addr, out, INET6_ADDRSTRLEN) != NULL;
    }
    const struct sockaddr_in6 *own = (const void *)at->ifa_addr;
    return v6 && at->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&own->sin6_addr) &&
           inet_ntop(AF_INET6, &own->sin6_addr, out, INET6_ADDRSTRLEN) != NULL;
}

static void add_all_addresses(struct shown_leaf *shown, bool v6)
{
    struct ifaddrs *all;
    char text[INET6_ADDRSTRLEN];
    if (getifaddrs(&all) < 0) {
        log_warn("certificates", "the machine does not tell its addresses", "cause", strerror(errno));
        return;
    }
    for (const struct ifaddrs *at = all; at; at = at->ifa_next)
        if (reachable(at, v6, text))
            add(&shown->ip, text);
    freeifaddrs(all);
}

static void add_listening(struct shown_leaf *shown, const char *listen)
{
    bool any_v6 = streq(listen, "::");
    if (any_v6 || streq(listen, "0.0.0.0"))
        add_all_addresses(shown, any_v6);
    else
        add(&shown->ip, listen);
}

static void add_named(struct shown_leaf *shown, const char *names)
{
    AUTO_FREE char *copy = xstrdup(names);
    char *rest = copy;
    for (const char *name; (name = strsep(&rest, ", "));)
        if (*name)
            add(listen_is_address(name) ? &shown->ip : &shown->dns, name);
}

void shown_leaf_make(const struct server *server, struct shown_leaf *out)
{
    char hostname[256] = "localhost";
    *out = (struct shown_leaf){0};
    if (gethostname(hostname, sizeof(hostname) - 1) < 0)
        log_warn("certificates", "the machine does not tell its name", "cause", strerror(errno));
    add(&out->dns, hostname); /* first: the common name */
    add(&out->dns, "localhost");
    /* For the pool's other parts, which know the server by it wherever it is. */
    add(&out->dns, "server.corral.internal");
    add(&out->ip, "127.0.0.1");
    add(&out->ip, "::1");
    add_listening(out, server->listen);
    if (server->names)
        add_named(out, server->names);
    out->leaf = (struct pki_leaf){.common_name = out->dns[0],
                                  .dns = (const char *const *)out->dns,
                                  .ip = (const char *const *)out->ip,
                                  .usage = PKI_SERVER,
                                  .days = CERTIFICATE_DAYS};
}

static void list_done(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void shown_leaf_done(struct shown_leaf *shown)
{
    list_done(shown->dns);
    list_done(shown->ip);
    *shown = (struct shown_leaf){0};
}

const char *shown_leaf_missing(const struct shown_leaf *shown, const char *cert, const char *ca)
{
    char *const *const lists[] = {shown->dns, shown->ip};
    struct pki_error ignored;
    if (pki_check(cert, ca, PKI_SERVER, NULL, &ignored) < 0)
        return NULL;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (size_t i = 0; lists[l][i]; i++)
            if (pki_check(cert, ca, PKI_SERVER, lists[l][i], &ignored) < 0)
                return lists[l][i];
    return NULL;
}
