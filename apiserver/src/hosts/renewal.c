/* The agent makes the key, the server signs, the agent installs: see hv/agent/certificate.c. */
#include "renewal.h"

#include "../certificates.h"
#include "../server.h"
#include "hosts.h"
#include "join.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>

/* What the pool knows of the certificate that a host's agent shows. */
struct known {
    struct ref host;
    int64_t not_before, not_after;
    const char *sha256; /* "AB:CD:...", borrowed; NULL: it knows none */
};

static bool find(const struct row *row, void *arg)
{
    struct known *known = arg;
    const struct certificate_row *c = certificate_row(row);
    if (c->type != CERTIFICATE_TYPE_HOST_INTERNAL || !ref_eq(c->host, known->host))
        return true;
    known->not_before = c->not_before;
    known->not_after = c->not_after;
    known->sha256 = c->fingerprint_sha256;
    return false;
}

static void op_init(struct hosts_op *op, struct call *call)
{
    *op = (struct hosts_op){.op = {.id = op->id}};
    if (call)
        hosts_op_init(op, call, 0);
    else
        uuid_format(ref_new(), op->id);
}

/* Asks the agent, signs, installs. The caller frees *cert. */
static int replace(struct server *server, struct call *call, const struct host_row *host,
                   struct hv_host *agent, char **cert, struct api_err *err)
{
    struct hosts_op op;
    struct hv_err cause;
    AUTO_FREE char *ca = NULL;
    struct hv_certificate_request_args ask;
    struct hv_certificate_request_result request;
    struct hv_certificate_install_args give;
    struct hv_certificate_install_result done;
    op_init(&op, call);
    hv_certificate_request_args_init(&ask);
    int rc = hv_certificate_request(agent, &op.op, &ask, &request, &cause);
    hv_certificate_request_args_done(&ask);
    if (rc < 0)
        return hosts_fail(err, host->row.ref, &cause);
    rc = join_issue_certificate(server, host->uuid, request.csr, cert, &ca, err);
    hv_certificate_request_result_done(&request);
    if (rc < 0)
        return -1;
    op_init(&op, call);
    hv_certificate_install_args_init(&give);
    str_assign(&give.certificate, *cert);
    rc = hv_certificate_install(agent, &op.op, &give, &done, &cause);
    hv_certificate_install_args_done(&give);
    if (rc < 0)
        return hosts_fail(err, host->row.ref, &cause);
    hv_certificate_install_result_done(&done);
    return 0;
}

static int note(struct server *server, struct ref host, const char *cert, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    if (tx_get(tx, CLASS_host, host))
        certificates_of_host(tx, host, CERTIFICATE_TYPE_HOST_INTERNAL, cert);
    return server_commit(tx, err);
}

int renewal_of_host(struct server *server, struct call *call, struct ref ref, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, ref));
    struct known known = {.host = ref};
    AUTO_FREE char *cert = NULL;
    char when[PKI_VALIDITY_SIZE];
    if (!host)
        return fail_handle(err, CLASS_host, ref);
    snapshot_each(snap, CLASS_Certificate, find, &known);
    int64_t now = clock_unix_seconds();
    bool refused = known.sha256 && (known.not_after <= now || known.not_before > now);
    struct hv_host *agent = refused ? hosts_get_pinned(server->hosts, ref, known.sha256, err)
                                    : hosts_get(server->hosts, ref, err);
    if (!agent)
        return -1;
    int rc = replace(server, call, host, agent, &cert, err);
    hosts_put(server->hosts, agent);
    if (rc < 0 || note(server, ref, cert, err) < 0)
        return -1;
    log_info("certificate", "replaced that of a host", "host", host->uuid, "name", host->name_label, "former",
             pki_validity(known.not_before, known.not_after, when));
    return 0;
}

struct due {
    int64_t now;
    struct ref *hosts;
    size_t count;
};

static bool add_due(const struct row *row, void *arg)
{
    struct due *due = arg;
    const struct certificate_row *c = certificate_row(row);
    bool good = c->not_after - due->now > CERTIFICATE_RENEW_S && c->not_before <= due->now;
    if (c->type != CERTIFICATE_TYPE_HOST_INTERNAL || good)
        return true;
    due->hosts = xreallocarray(due->hosts, due->count + 1, sizeof(*due->hosts));
    due->hosts[due->count++] = c->host;
    return true;
}

void renewal_look(struct server *server)
{
    struct due due = {.now = clock_unix_seconds()};
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    snapshot_each(snap, CLASS_Certificate, add_due, &due);
    for (size_t i = 0; i < due.count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, due.hosts[i]));
        if (host && renewal_of_host(server, NULL, due.hosts[i], &err) < 0)
            log_warn("certificate",
                     "that of a host ends soon or has ended, and could not be renewed: it is tried again",
                     "host", host->uuid, "name", host->name_label, "error", err.code, "cause",
                     err.param_count ? err.params[err.param_count - 1] : "");
    }
    free(due.hosts);
}
