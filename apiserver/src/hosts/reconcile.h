/* Rows and truth: what an agent says of its domains against what the rows say of its VMs. */
#pragma once
#include <base/ref.h>
#include <hv/client.h>

struct server;

/* What is remembered of a host between two looks: reboots seen of each domain, and
 * which data it shares. */
struct reconcile {
    struct reboot_count {
        struct ref vm;
        int64_t domid, reboots;
        char kept_mark[64]; /* of what its firmware had written down when that was last read */
        int64_t data_version; /* of the data that its row has */
    } * counts;
    size_t count;
    int64_t
        since; /* unix seconds of the first look: a domain that started later is known from its birth on */
};
void reconcile_done(struct reconcile *state);

/* Lists the host's domains and puts the rows right; domains that ended and are recorded are forgotten by the
 * agent. Returns how many VMs could not be looked at because an operation runs on them (look again soon), or
 * -1: the agent does not answer. */
int reconcile_host(struct server *server, struct ref host, struct hv_host *agent, struct reconcile *state);
