/* A new certificate of the pool in place of the agent's present one: a new key and a request, then the
 * certificate for it, which counts for connections from then on; nothing is started anew. While it changes,
 * STATE/pki/ also has next.key and next.pem; host.key is replaced before host.pem. */
#include "agent.h"
#include <base/file.h>
#include <base/http_server.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <unistd.h>

#define PEM_MAX 65536

static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER; /* the files of the pair and their next ones */

static int write_pem(struct agent *agent, const char *name, const char *text, struct hv_err *err)
{
    char *path AUTO_FREE = agent_path(agent, name);
    if (file_write_atomic(path, text, strlen(text), 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be written: %s", name, strerror(errno));
    return 0;
}

static int remove_next(struct agent *agent, const char *name, struct hv_err *err)
{
    char *path AUTO_FREE = agent_path(agent, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be removed: %s", name, strerror(errno));
    return 0;
}

void certificate_repair(struct agent *agent)
{
    char *next AUTO_FREE = agent_path(agent, "pki/next.pem"),
               *key AUTO_FREE = agent_path(agent, "pki/host.key");
    char *pem AUTO_FREE = file_read(next, PEM_MAX, NULL);
    struct hv_err err = {0};
    /* The key was replaced already: its certificate follows. Else the present pair is whole. */
    if (pem && pki_key_matches(pem, key) && write_pem(agent, "pki/host.pem", pem, &err) < 0) {
        log_error("certificate", "the change of the certificate cannot be ended", "reason", err.text);
        return;
    }
    if (remove_next(agent, "pki/next.pem", &err) < 0 || remove_next(agent, "pki/next.key", &err) < 0)
        log_warn("certificate", "a file that is not needed any more stays", "reason", err.text);
}

/* ---- the calls ---- */

int agent_certificate_request(struct agent *agent, struct agent_op *op,
                              const struct hv_certificate_request_args *args,
                              struct hv_certificate_request_result *result, struct hv_err *err)
{
    char *key AUTO_FREE = agent_path(agent, "pki/next.key");
    char *csr AUTO_FREE = NULL;
    struct pki_error cause = {0};
    (void)op;
    (void)args;
    pthread_mutex_lock(&changing);
    int rc = remove_next(agent, "pki/next.key", err);
    if (rc == 0 && pki_create_request("corral host", key, &csr, &cause) < 0)
        rc = hv_fail(err, HV_ERR_KIND_IO, "A key cannot be made: %s", cause.text);
    pthread_mutex_unlock(&changing);
    if (rc == 0)
        str_assign(&result->csr, csr);
    return rc;
}

/* A repeat of what was done, whose answer was lost. */
static bool is_installed(struct agent *agent, const char *chain, const char *key_path)
{
    char *path AUTO_FREE = agent_path(agent, "pki/host.pem");
    char *present AUTO_FREE = file_read(path, PEM_MAX, NULL);
    return access(key_path, F_OK) < 0 && present && streq(present, chain);
}

static int check(struct agent *agent, const char *certificate, const char *ca, const char *key_path,
                 struct hv_err *err)
{
    char *name AUTO_FREE = xasprintf("%s.host.corral.internal", agent->host_uuid);
    struct pki_error cause = {0};
    if (access(key_path, R_OK) < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "No new certificate was asked for.");
    if (pki_check(certificate, ca, PKI_SERVER, name, &cause) < 0)
        return hv_fail(err, HV_ERR_KIND_DENIED, "The certificate from the pool is not right: %s", cause.text);
    if (!pki_key_matches(certificate, key_path))
        return hv_fail(err, HV_ERR_KIND_DENIED, "The certificate from the pool is for another key.");
    return 0;
}

/* Under the lock. Each step leaves a pair that serves, by certificate_repair if need be. */
static int install(struct agent *agent, const char *certificate, struct hv_err *err)
{
    char *key_path AUTO_FREE = agent_path(agent, "pki/next.key"),
                   *ca_path AUTO_FREE = agent_path(agent, "pki/ca.pem");
    char *ca AUTO_FREE = file_read(ca_path, PEM_MAX, NULL);
    struct http_server_error cause;
    if (!ca)
        return hv_fail(err, HV_ERR_KIND_IO, "The pool's CA cannot be read: %s", strerror(errno));
    char *chain AUTO_FREE =
        strstr(certificate, ca) ? xstrdup(certificate) : xasprintf("%s\n%s", certificate, ca);
    if (is_installed(agent, chain, key_path))
        return 0;
    if (check(agent, certificate, ca, key_path, err) < 0)
        return -1;
    char *key AUTO_SECRET = file_read(key_path, PEM_MAX, NULL);
    if (!key)
        return hv_fail(err, HV_ERR_KIND_IO, "The new key cannot be read: %s", strerror(errno));
    if (write_pem(agent, "pki/next.pem", chain, err) < 0 || write_pem(agent, "pki/host.key", key, err) < 0 ||
        write_pem(agent, "pki/host.pem", chain, err) < 0)
        return -1;
    if (http_server_set_identity(agent->server, chain, key, ca, NULL, "", &cause) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The new certificate counts from the agent's next start: %s",
                       cause.text);
    return remove_next(agent, "pki/next.pem", err) < 0 ? -1 : remove_next(agent, "pki/next.key", err);
}

int agent_certificate_install(struct agent *agent, struct agent_op *op,
                              const struct hv_certificate_install_args *args,
                              struct hv_certificate_install_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    pthread_mutex_lock(&changing);
    int rc = install(agent, args->certificate, err);
    pthread_mutex_unlock(&changing);
    if (rc == 0)
        log_info("certificate", "the pool has replaced the host's certificate");
    return rc;
}
