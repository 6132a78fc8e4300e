/* Wake-on-LAN: a UDP datagram of six bytes FF and sixteen times the MAC, to the broadcast address. IPMI: the
 * ipmitool of the machine, with the password in its environment, where no other user sees it. */
#include "wake.h"

#include <arpa/inet.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <base/secret.h>
#include <errno.h>
#include <model/errors.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#define MAC_BYTES 6
#define MAC_REPEATS 16
#define WOL_PORT 9
#define IPMI_TIMEOUT_MS 30000

static int fail_value(struct api_err *err, const char *name, const char *value, const char *why)
{
    return err_value_not_supported(err, name, value ? value : "", why);
}

/* ---- wake-on-LAN ---- */

static bool parse_mac(const char *text, unsigned char mac[MAC_BYTES])
{
    unsigned n[MAC_BYTES];
    int end = 0;
    if (!text ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &end) !=
            MAC_BYTES ||
        text[end])
        return false;
    for (int i = 0; i < MAC_BYTES; i++)
        mac[i] = (unsigned char)n[i];
    return true;
}

/* The MAC of its management interface, unless the settings name one. */
static const char *mac_of(const struct snapshot *snap, const struct host_row *host)
{
    const char *given = str_map_get(host->power_on_config, "mac");
    if (given)
        return given;
    for (size_t i = 0; host->PIFs && i < host->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, host->PIFs->items[i]));
        if (pif && pif->management)
            return pif->MAC;
    }
    return NULL;
}

static int send_packet(const struct sockaddr_in *to, const void *data, size_t len)
{
    int on = 1;
    int fd AUTO_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0)
        return -1;
    return sendto(fd, data, len, 0, (const struct sockaddr *)to, sizeof(*to)) == (ssize_t)len ? 0 : -1;
}

static int wake_on_lan(const struct snapshot *snap, const struct host_row *host, struct api_err *err)
{
    unsigned char mac[MAC_BYTES], packet[MAC_BYTES * (1 + MAC_REPEATS)];
    const char *text = mac_of(snap, host), *address = str_map_get(host->power_on_config, "broadcast_address");
    const char *port = str_map_get(host->power_on_config, "port");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(WOL_PORT)};
    if (!parse_mac(text, mac))
        return fail_value(err, "power_on_config:mac", text,
                          "The host's MAC address is not known; set it here.");
    if (inet_pton(AF_INET, address ? address : "255.255.255.255", &to.sin_addr) != 1)
        return fail_value(err, "power_on_config:broadcast_address", address, "It is no IPv4 address.");
    if (port) {
        char *end;
        long n = strtol(port, &end, 10);
        if (*end || n < 1 || n > 65535)
            return fail_value(err, "power_on_config:port", port, "It is no port.");
        to.sin_port = htons((uint16_t)n);
    }
    memset(packet, 0xff, MAC_BYTES);
    for (int i = 0; i < MAC_REPEATS; i++)
        memcpy(packet + (1 + i) * MAC_BYTES, mac, MAC_BYTES);
    if (send_packet(&to, packet, sizeof(packet)) < 0)
        return fail_internal(err, "The wake-on-LAN packet could not be sent: %s", strerror(errno));
    log_info("hosts", "sent a wake-on-LAN packet", "host", host->uuid, "mac", text);
    return 0;
}

/* ---- IPMI ---- */

static bool plain_word(const char *text)
{
    return text && *text && *text != '-' &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:_-@") ==
               strlen(text);
}

static const char *password_of(const struct snapshot *snap, const struct host_row *host)
{
    const char *uuid = str_map_get(host->power_on_config, "power_on_password_secret");
    const struct row *secret = uuid ? snapshot_by_uuid(snap, CLASS_secret, uuid) : NULL;
    return secret ? secret_row(secret)->value : NULL;
}

static int ipmi(const struct snapshot *snap, const struct host_row *host, struct api_err *err)
{
    const char *address = str_map_get(host->power_on_config, "power_on_ip");
    const char *user = str_map_get(host->power_on_config, "power_on_user"),
               *password = password_of(snap, host);
    const char *path = getenv("PATH");
    if (!plain_word(address))
        return fail_value(err, "power_on_config:power_on_ip", address,
                          "It is no address of a management board.");
    if (!plain_word(user))
        return fail_value(err, "power_on_config:power_on_user", user, "It is no user's name.");
    if (!password)
        return fail_value(err, "power_on_config:power_on_password_secret", NULL, "It names no secret.");
    AUTO_FREE char *path_line = xasprintf("PATH=%s", path ? path : "/usr/bin:/bin");
    AUTO_SECRET char *password_line = xasprintf("IPMI_PASSWORD=%s", password);
    const char *argv[] = {"ipmitool", "-I", "lanplus", "-H",    address, "-U",
                          user,       "-E", "chassis", "power", "on",    NULL};
    const char *env[] = {path_line, password_line, "LC_ALL=C.UTF-8", NULL};
    const struct proc_spec spec = {.argv = argv, .env = env, .new_session = true};
    const struct proc_run_options options = {.timeout_ms = IPMI_TIMEOUT_MS, .capture_max = 4096};
    AUTO_PROC_RESULT struct proc_result ran = PROC_RESULT_INIT;
    if (proc_run(&spec, &options, &ran) < 0)
        return errno == ENOENT ? err_xenapi_missing_plugin(err, "ipmitool")
                               : fail_internal(err, "ipmitool cannot be started: %s", strerror(errno));
    if (!proc_ok(&ran)) {
        log_warn("hosts", "a management board refused", "host", host->uuid, "cause",
                 ran.err.data ? ran.err.data : "");
        return err_xenapi_plugin_failure(err, "power_on", "ipmitool", "The management board did not do it.");
    }
    return 0;
}

int host_wake(struct server *server, const struct snapshot *snap, const struct host_row *host,
              struct api_err *err)
{
    (void)server;
    if (!*host->power_on_mode)
        return err_host_power_on_mode_disabled(err);
    if (streq(host->power_on_mode, "wake-on-lan"))
        return wake_on_lan(snap, host, err);
    if (streq(host->power_on_mode, "IPMI"))
        return ipmi(snap, host, err);
    return err_xenapi_missing_plugin(err, host->power_on_mode);
}
