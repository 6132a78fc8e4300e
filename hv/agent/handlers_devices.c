/* What the calls about PCI and USB devices mean, and what a start needs of them.
 *
 * STATE/pci-hidden lists the places of devices that are set aside for guests. A device that one of the host's
 * drivers has is taken from it only when the host has booted since, so that nobody loses a disk or a network
 * at a call. */
#include "devices_sim.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define POLICY_MAX (64 * 1024)
#define HIDDEN_MAX (64 * 1024)

static bool is_simulated(const struct agent *agent)
{
    return agent->driver == &hv_sim_driver;
}

static const char *root_of(const struct agent *agent)
{
    return agent->options.devices_root ? agent->options.devices_root : "";
}

static char *hidden_of(const struct agent *agent)
{
    AUTO_FREE char *path = agent_path(agent, "pci-hidden");
    char *text = file_read(path, HIDDEN_MAX, NULL);
    return text ? text : xstrdup("");
}

static void list_pci(const struct agent *agent, struct host_pci **out, size_t *count)
{
    AUTO_FREE char *hidden = hidden_of(agent);
    if (is_simulated(agent))
        sim_pci(hidden, out, count);
    else
        pci_list(root_of(agent), hidden, out, count);
}

static void free_pci(struct host_pci *all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        host_pci_done(&all[i]);
    free(all);
}

static bool has_iommu(const struct agent *agent)
{
    return is_simulated(agent) || pci_has_iommu(root_of(agent));
}

static int read_policy(const struct agent *agent, struct usb_policy *policy, struct hv_err *err)
{
    AUTO_FREE char *own = agent_path(agent, "usb-policy.conf");
    const char *path = agent->options.usb_policy ? agent->options.usb_policy : own;
    AUTO_FREE char *text = file_read(path, POLICY_MAX, NULL);
    if (!text && (errno != ENOENT || agent->options.usb_policy))
        return hv_fail(err, HV_ERR_KIND_IO, "The policy of USB devices cannot be read: %s.", strerror(errno));
    return usb_policy_parse(text, policy, err);
}

static int list_usb(const struct agent *agent, struct host_usb **out, size_t *count, struct hv_err *err)
{
    struct usb_policy policy;
    if (read_policy(agent, &policy, err) < 0)
        return -1;
    if (is_simulated(agent))
        sim_usb(agent, &policy, out, count);
    else
        usb_list(root_of(agent), &policy, out, count);
    return 0;
}

int agent_device_list(struct agent *agent, struct agent_op *op, const struct hv_device_list_args *args,
                      struct hv_device_list_result *result, struct hv_err *err)
{
    struct host_pci *pci;
    struct host_usb *usb;
    size_t pci_count, usb_count;
    (void)op;
    (void)args;
    if (list_usb(agent, &usb, &usb_count, err) < 0)
        return -1;
    list_pci(agent, &pci, &pci_count);
    result->iommu = has_iommu(agent);
    for (size_t i = 0; i < pci_count; i++) {
        struct host_pci *slot = hv_device_list_result_add_pci(result);
        host_pci_done(slot);
        host_pci_copy(slot, &pci[i]);
    }
    for (size_t i = 0; i < usb_count; i++) {
        struct host_usb *slot = hv_device_list_result_add_usb(result);
        host_usb_done(slot);
        host_usb_copy(slot, &usb[i]);
        host_usb_done(&usb[i]);
    }
    free_pci(pci, pci_count);
    free(usb);
    return 0;
}

/* ---- setting aside ---- */

static int write_hidden(const struct agent *agent, const char *hidden, const char *bus, bool add,
                        struct hv_err *err)
{
    AUTO_FREE char *path = agent_path(agent, "pci-hidden"), *copy = xstrdup(hidden);
    AUTO_BUF struct buf text = BUF_INIT;
    char *rest = copy, *line;
    while ((line = strsep(&rest, "\n")))
        if (*line && !streq(line, bus))
            buf_printf(&text, "%s\n", line);
    if (add)
        buf_printf(&text, "%s\n", bus);
    if (file_write_atomic(path, text.len ? text.data : "", text.len, 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The list of devices for guests cannot be written: %s.",
                       strerror(errno));
    return 0;
}

int agent_pci_access(struct agent *agent, struct agent_op *op, const struct hv_pci_access_args *args,
                     struct hv_pci_access_result *result, struct hv_err *err)
{
    struct host_pci *all;
    size_t count;
    int outcome = -1;
    bool found = false, free_one = false;
    (void)op;
    if (!hv_pci_bus_ok(args->bus))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The place of a PCI device has the form 0000:00:02.0.");
    AUTO_FREE char *hidden = hidden_of(agent);
    list_pci(agent, &all, &count);
    for (size_t i = 0; i < count; i++)
        if (streq(all[i].bus, args->bus)) {
            found = true;
            free_one = !*all[i].driver || streq(all[i].driver, "vfio-pci");
            result->access = pci_access_of(!args->host, all[i].driver);
        }
    free_pci(all, count);
    if (!found)
        hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The host has no PCI device at %s.", args->bus);
    else if (!args->host && !has_iommu(agent))
        hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                "The host has no IOMMU, or it is switched off: no guest can have its devices.");
    else
        outcome = write_hidden(agent, hidden, args->bus, !args->host, err);
    if (outcome < 0 || is_simulated(agent) || !free_one)
        return outcome;
    if (pci_bind(root_of(agent), args->bus, !args->host, false, err) < 0) {
        struct hv_err ignored;
        if (write_hidden(agent, hidden, args->bus, pci_is_hidden(hidden, args->bus), &ignored) < 0)
            log_warn("devices", "the list of devices for guests is not as it was", "device", args->bus);
        return -1;
    }
    result->access = args->host ? HOST_ACCESS_ENABLED : HOST_ACCESS_DISABLED;
    return 0;
}

/* Whether the list was written before the kernel started. */
static bool is_of_before(const struct agent *agent)
{
    AUTO_FREE char *path = agent_path(agent, "pci-hidden");
    struct stat st;
    return stat(path, &st) == 0 && st.st_mtime < agent->facts.boot_time;
}

void devices_start(struct agent *agent)
{
    AUTO_FREE char *hidden = hidden_of(agent);
    char *rest = hidden, *line;
    bool take = is_of_before(agent);
    while (!is_simulated(agent) && (line = strsep(&rest, "\n"))) {
        struct hv_err err;
        if (*line && hv_pci_bus_ok(line) && pci_bind(root_of(agent), line, true, take, &err) < 0)
            log_warn("devices", "a device that guests are to have stays with the host", "device", line,
                     "cause", err.text);
    }
}

/* ---- for a start ---- */

/* The device model opens these files itself. */
static int hand_over(const struct agent *agent, const char *path, uid_t uid, gid_t gid, struct hv_err *err)
{
    AUTO_FREE char *full = xasprintf("%s%s", root_of(agent), path);
    if (lchown(full, uid, gid) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be given to the guest: %s.", path, strerror(errno));
    return 0;
}

static int prepare_pci(const struct agent *agent, const char *bus, struct hv_err *err)
{
    const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    if (pci_group(root_of(agent), bus) < 0)
        return hv_fail(
            err, HV_ERR_KIND_UNSUPPORTED,
            "The device %s is not behind an IOMMU of the host (or is not there): no guest can have it.", bus);
    if (pci_bind(root_of(agent), bus, true, false, err) < 0)
        return -1;
    /* The guest's memory is locked, for the device writes to it; children inherit the limit. */
    if (setrlimit(RLIMIT_MEMLOCK, &all) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The guest's memory cannot be locked: %s.", strerror(errno));
    return 0;
}

int devices_give(const struct agent *agent, const struct domain_config *config, uid_t uid, gid_t gid,
                 struct hv_err *err)
{
    for (size_t i = 0; i < config->usb_count; i++) {
        int bus, address;
        if (usb_address(root_of(agent), &config->usb[i], &bus, &address, err) < 0)
            return -1;
        AUTO_FREE char *path = xasprintf("/dev/bus/usb/%03d/%03d", bus, address);
        if (hand_over(agent, path, uid, gid, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < config->pci_count; i++) {
        AUTO_FREE char *path = xasprintf("/dev/vfio/%d", pci_group(root_of(agent), config->pci[i]));
        if (hand_over(agent, path, uid, gid, err) < 0)
            return -1;
    }
    return 0;
}

/* The policy may have changed since the server asked. */
static int check_usb(const struct agent *agent, const struct domain_usb *usb, struct hv_err *err)
{
    struct host_usb *all;
    size_t count;
    bool found = false;
    if (list_usb(agent, &all, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        found = found || (streq(all[i].path, usb->path) && streq(all[i].vendor_id, usb->vendor_id) &&
                          streq(all[i].product_id, usb->product_id));
        host_usb_done(&all[i]);
    }
    free(all);
    return found ? 0
                 : hv_fail(err, HV_ERR_KIND_NOT_FOUND,
                           "The host has no USB device %s:%s at %s that its policy lets guests have.",
                           usb->vendor_id, usb->product_id, usb->path);
}

int devices_prepare(struct agent *agent, const struct domain_config *config, struct hv_err *err)
{
    for (size_t i = 0; i < config->usb_count; i++)
        if (check_usb(agent, &config->usb[i], err) < 0)
            return -1;
    for (size_t i = 0; i < config->pci_count && !is_simulated(agent); i++)
        if (prepare_pci(agent, config->pci[i], err) < 0)
            return -1;
    return 0;
}

int agent_usb_unplug(struct agent *agent, struct agent_op *op, const struct hv_usb_unplug_args *args,
                     struct hv_usb_unplug_result *result, struct hv_err *err)
{
    (void)result;
    return agent->driver->usb_unplug(agent->state, args->domain, args->path, &op->deadline, err);
}
