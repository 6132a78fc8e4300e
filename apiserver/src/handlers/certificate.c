/* Certificates: the one that the server shows and those of agents (host.*_server_certificate), those that the
 * pool trusts, and lists of revoked ones (pool.*). */
#include "../certificates.h"
#include "../front.h"
#include "../gate/auth.h"
#include "../hosts/renewal.h"
#include "../server.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <handlers.h>
#include <model/errors.h>

#define PEM_MAX (64 * 1024)
#define NAME_MAX_BYTES 128
#define CERTIFICATES_MAX 256
#define CRLS_MAX 64

struct moment {
    char text[DATETIME_TEXT_SIZE];
};

static struct moment moment_of(int64_t seconds)
{
    struct moment m;
    datetime_format(seconds, m.text);
    return m;
}

/* ---- what the server shows ---- */

/* Clients reach every host through this server, whose certificate counts as the coordinator's. */
static int check_coordinator(struct call *call, struct ref ref, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, ref))
        return fail_handle(err, CLASS_host, ref);
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    if (pool && ref_eq(pool->master, ref))
        return 0;
    return err_operation_not_allowed(
        err, "Clients reach this host through the coordinator: only that one's certificate can be changed.");
}

int handle_host_get_server_certificate(struct call *call, const struct host_get_server_certificate_args *args,
                                       const char **result, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    AUTO_FREE char *pem = front_certificate(call->server, err);
    if (!pem)
        return -1;
    *result = str_new(pem);
    return 0;
}

static int fail_identity(const struct pki_identity_fault *fault, int64_t now, struct api_err *err)
{
    switch (fault->kind) {
    case PKI_FAULT_KEY:
        return err_server_certificate_key_invalid(err);
    case PKI_FAULT_KEY_ALGORITHM:
        return err_server_certificate_key_algorithm_not_supported(err, fault->detail);
    case PKI_FAULT_KEY_LENGTH:
        return err_server_certificate_key_rsa_length_not_supported(err, fault->detail);
    case PKI_FAULT_KEY_PRIMES:
        return err_server_certificate_key_rsa_multi_not_supported(err);
    case PKI_FAULT_CERTIFICATE:
        return err_server_certificate_invalid(err);
    case PKI_FAULT_NOT_YET:
        return err_server_certificate_not_valid_yet(err, moment_of(now).text,
                                                    moment_of(fault->facts.not_before).text);
    case PKI_FAULT_EXPIRED:
        return err_server_certificate_expired(err, moment_of(now).text,
                                              moment_of(fault->facts.not_after).text);
    case PKI_FAULT_MISMATCH:
        return err_server_certificate_key_mismatch(err);
    case PKI_FAULT_SIGNATURE:
        return err_server_certificate_signature_not_supported(err);
    case PKI_FAULT_CHAIN:
        return err_server_certificate_chain_invalid(err);
    }
    return fail_internal(err, "The certificate cannot be used.");
}

int handle_host_install_server_certificate(struct call *call,
                                           const struct host_install_server_certificate_args *args,
                                           struct api_err *err)
{
    struct pki_identity_fault fault = {0};
    AUTO_SECRET char *identity = NULL;
    int64_t now = clock_unix_seconds();
    if (check_coordinator(call, args->host, err) < 0)
        return -1;
    if (str_len(args->private_key) > PEM_MAX)
        return err_server_certificate_key_invalid(err);
    if (str_len(args->certificate) > PEM_MAX)
        return err_server_certificate_invalid(err);
    if (str_len(args->certificate_chain) > PEM_MAX)
        return err_server_certificate_chain_invalid(err);
    if (pki_make_identity(args->certificate, args->private_key, args->certificate_chain, now, &identity,
                          &fault) < 0)
        return fail_identity(&fault, now, err);
    if (front_install(call->server, identity, err) < 0)
        return -1;
    log_info("certificate", "installed for the server", "fingerprint", fault.facts.sha256, "user",
             call->session->user);
    return 0;
}

int handle_host_reset_server_certificate(struct call *call,
                                         const struct host_reset_server_certificate_args *args,
                                         struct api_err *err)
{
    return check_coordinator(call, args->host, err) < 0 ? -1 : front_reset(call->server, err);
}

/* Local root, on the machine of the coordinator: the only one where the server answers. */
int handle_host_emergency_reset_server_certificate(struct call *call, struct api_err *err)
{
    return front_reset(call->server, err);
}

/* ---- what hosts show to the pool ---- */

/* Is what the server shows made by the pool, or brought along? */
static bool shows_own(struct server *server)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    AUTO_FREE char *shown = front_certificate(server, &ignored);
    AUTO_FREE char *ca_path = xasprintf("%s/pki/ca.pem", server->state_dir);
    AUTO_FREE char *ca = file_read(ca_path, PEM_MAX, NULL);
    struct pki_error cause;
    return shown && ca && pki_check(shown, ca, PKI_SERVER, NULL, &cause) == 0;
}

int handle_host_refresh_server_certificate(struct call *call,
                                           const struct host_refresh_server_certificate_args *args,
                                           struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    if (renewal_of_host(call->server, call, args->host, err) < 0)
        return -1;
    return pool && ref_eq(pool->master, args->host) && shows_own(call->server)
               ? front_reset(call->server, err)
               : 0;
}

/* ---- what is trusted ---- */

static int check_pool(const struct call *call, struct ref self, struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_pool, self) ? 0 : fail_handle(err, CLASS_pool, self);
}

/* Names were names of files once, and still look like such. */
static bool is_good_name(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= NAME_MAX_BYTES && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == len;
}

struct trusted_search {
    const char *name, *sha256; /* one of them */
    struct ref found;
};

static bool is_trusted(const struct certificate_row *c)
{
    return c->type == CERTIFICATE_TYPE_CA || c->type == CERTIFICATE_TYPE_PINNED;
}

static bool match_trusted(const struct row *row, void *arg)
{
    struct trusted_search *s = arg;
    const struct certificate_row *c = certificate_row(row);
    if (is_trusted(c) && streq(s->name ? c->name : c->fingerprint_sha256, s->name ? s->name : s->sha256))
        s->found = row->ref;
    return ref_is_null(s->found);
}

static struct ref find_trusted(struct tx *tx, const char *name, const char *sha256)
{
    struct trusted_search s = {.name = name, .sha256 = sha256, .found = REF_NULL};
    tx_each(tx, CLASS_Certificate, match_trusted, &s);
    return s.found;
}

static void add_trusted(struct tx *tx, const struct pki_facts *facts, const char *name,
                        enum certificate_type type, uint64_t purpose, const char *pem)
{
    struct certificate_row *c = certificate_row_mut(tx_create(tx, CLASS_Certificate));
    str_assign(&c->name, name);
    c->type = type;
    c->purpose = purpose;
    c->not_before = facts->not_before;
    c->not_after = facts->not_after;
    str_assign(&c->fingerprint, facts->sha256);
    str_assign(&c->fingerprint_sha256, facts->sha256);
    str_assign(&c->fingerprint_sha1, facts->sha1);
    str_assign(&c->pem, pem);
}

static int commit_trust(struct call *call, struct tx *tx, struct api_err *err)
{
    return server_commit(tx, err) < 0 ? -1 : front_refresh(call->server, err);
}

static int install_ca(struct call *call, const char *name, const char *cert, struct api_err *err)
{
    struct pki_facts facts;
    struct pki_error cause;
    int64_t now = clock_unix_seconds();
    AUTO_FREE char *pem = str_len(cert) <= PEM_MAX ? pki_normalized(cert, str_len(cert)) : NULL;
    if (!is_good_name(name))
        return err_certificate_name_invalid(err, name);
    if (!pem || pki_describe(pem, strlen(pem), &facts, &cause) < 0)
        return err_ca_certificate_invalid(err);
    if (now < facts.not_before)
        return err_ca_certificate_not_valid_yet(err);
    if (now > facts.not_after)
        return err_ca_certificate_expired(err);
    struct tx *tx = store_begin(call->server->store);
    int rc = 0;
    if (!ref_is_null(find_trusted(tx, name, NULL)))
        rc = err_certificate_already_exists(err, name);
    else if (tx_count(tx, CLASS_Certificate) >= CERTIFICATES_MAX)
        rc = err_operation_not_allowed(err,
                                       "The pool trusts as many certificates as it can: remove some first.");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    add_trusted(tx, &facts, name, CERTIFICATE_TYPE_CA, 0, pem);
    return commit_trust(call, tx, err);
}

static int uninstall_ca(struct call *call, const char *name, bool force, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref ref = is_good_name(name) ? find_trusted(tx, name, NULL) : REF_NULL;
    if (ref_is_null(ref)) {
        tx_abort(tx);
        if (!is_good_name(name))
            return err_certificate_name_invalid(err, name);
        return force ? 0 : err_certificate_does_not_exist(err, name);
    }
    tx_delete(tx, CLASS_Certificate, ref);
    return commit_trust(call, tx, err);
}

int handle_pool_install_ca_certificate(struct call *call, const struct pool_install_ca_certificate_args *args,
                                       struct api_err *err)
{
    return install_ca(call, args->name, args->cert, err);
}

int handle_pool_certificate_install(struct call *call, const struct pool_certificate_install_args *args,
                                    struct api_err *err)
{
    return install_ca(call, args->name, args->cert, err);
}

int handle_pool_uninstall_ca_certificate(struct call *call,
                                         const struct pool_uninstall_ca_certificate_args *args,
                                         struct api_err *err)
{
    return uninstall_ca(call, args->name, args->force, err);
}

int handle_pool_certificate_uninstall(struct call *call, const struct pool_certificate_uninstall_args *args,
                                      struct api_err *err)
{
    return uninstall_ca(call, args->name, false, err);
}

static bool add_name(const struct row *row, void *arg)
{
    const struct str_set **names = arg;
    const struct certificate_row *c = certificate_row(row);
    if (c->type == CERTIFICATE_TYPE_CA && *c->name)
        str_set_assign(names, str_set_with(*names, c->name));
    return true;
}

int handle_pool_certificate_list(struct call *call, const struct str_set **result, struct api_err *err)
{
    (void)err;
    *result = NULL;
    snapshot_each(call->snapshot, CLASS_Certificate, add_name, result);
    return 0;
}

int handle_pool_install_trusted_certificate(struct call *call,
                                            const struct pool_install_trusted_certificate_args *args,
                                            struct api_err *err)
{
    struct pki_facts facts;
    struct pki_error cause;
    int64_t now = clock_unix_seconds();
    AUTO_FREE char *pem =
        str_len(args->cert) <= PEM_MAX ? pki_normalized(args->cert, str_len(args->cert)) : NULL;
    if (check_pool(call, args->self, err) < 0)
        return -1;
    if (!args->ca && !args->purpose) /* one that vouches for itself alone has to be for something */
        return err_certificate_lacks_purpose(err);
    if (!pem || pki_describe(pem, strlen(pem), &facts, &cause) < 0 || (args->ca && !facts.ca))
        return err_trusted_certificate_invalid(err);
    if (now < facts.not_before)
        return err_trusted_certificate_not_valid_yet(err, moment_of(now).text,
                                                     moment_of(facts.not_before).text);
    if (now > facts.not_after)
        return err_trusted_certificate_expired(err, moment_of(now).text, moment_of(facts.not_after).text);
    struct tx *tx = store_begin(call->server->store);
    int rc = 0;
    if (!ref_is_null(find_trusted(tx, NULL, facts.sha256)))
        rc = err_trusted_certificate_already_exists(err, facts.sha256);
    else if (tx_count(tx, CLASS_Certificate) >= CERTIFICATES_MAX)
        rc = err_operation_not_allowed(err,
                                       "The pool trusts as many certificates as it can: remove some first.");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    add_trusted(tx, &facts, "", args->ca ? CERTIFICATE_TYPE_CA : CERTIFICATE_TYPE_PINNED, args->purpose, pem);
    return commit_trust(call, tx, err);
}

int handle_pool_uninstall_trusted_certificate(struct call *call,
                                              const struct pool_uninstall_trusted_certificate_args *args,
                                              struct api_err *err)
{
    if (check_pool(call, args->self, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    const struct certificate_row *c = certificate_row(tx_get(tx, CLASS_Certificate, args->certificate));
    if (!c || !is_trusted(c)) {
        int rc = c ? err_not_trusted_certificate(err, REF_TEXT(args->certificate))
                   : fail_handle(err, CLASS_Certificate, args->certificate);
        tx_abort(tx);
        return rc;
    }
    tx_delete(tx, CLASS_Certificate, args->certificate);
    return commit_trust(call, tx, err);
}

/* ---- lists of revoked ones ---- */

int handle_pool_crl_install(struct call *call, const struct pool_crl_install_args *args, struct api_err *err)
{
    if (!is_good_name(args->name))
        return err_crl_name_invalid(err, args->name);
    if (str_len(args->cert) > PEM_MAX || !pki_is_crl(args->cert, str_len(args->cert)))
        return err_crl_corrupt(err, args->name);
    struct tx *tx = store_begin(call->server->store);
    struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, call->server->pool_ref));
    int rc = 0;
    if (str_map_get(pool->crls, args->name))
        rc = err_crl_already_exists(err, args->name);
    else if (pool->crls && pool->crls->count >= CRLS_MAX)
        rc = err_operation_not_allowed(err,
                                       "The pool has as many revocation lists as it can: remove some first.");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    AUTO_STR const char *line = str_newf("%s\n", args->cert);
    str_map_put(&pool->crls, args->name, line);
    return commit_trust(call, tx, err);
}

int handle_pool_crl_uninstall(struct call *call, const struct pool_crl_uninstall_args *args,
                              struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, call->server->pool_ref));
    if (!str_map_get(pool->crls, args->name)) {
        tx_abort(tx);
        return is_good_name(args->name) ? err_crl_does_not_exist(err, args->name)
                                        : err_crl_name_invalid(err, args->name);
    }
    str_map_del(&pool->crls, args->name);
    return commit_trust(call, tx, err);
}

int handle_pool_crl_list(struct call *call, const struct str_set **result, struct api_err *err)
{
    (void)err;
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    *result = NULL;
    for (size_t i = 0; pool && pool->crls && i < pool->crls->count; i++)
        str_set_assign(result, str_set_with(*result, pool->crls->pairs[i].key));
    return 0;
}

/* Certificates and lists are in the database, so every member has them; what listens here takes them anew. */
int handle_pool_certificate_sync(struct call *call, struct api_err *err)
{
    return front_refresh(call->server, err);
}

/* ---- checking others ---- */

/* Server and agents have always checked each other's certificates. */
int handle_pool_enable_tls_verification(struct call *call, struct api_err *err)
{
    (void)call;
    (void)err;
    return 0;
}

int handle_host_emergency_reenable_tls_verification(struct call *call, struct api_err *err)
{
    (void)call;
    (void)err;
    return 0;
}

int handle_host_emergency_disable_tls_verification(struct call *call, struct api_err *err)
{
    (void)call;
    return err_operation_not_allowed(err, "Server and hosts always check each other's certificates.");
}

/* ---- clients that show one ---- */

static int set_client_auth(struct call *call, struct ref self, bool on, const char *name, struct api_err *err)
{
    if (check_pool(call, self, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, self));
    pool->client_certificate_auth_enabled = on;
    str_assign(&pool->client_certificate_auth_name, name);
    return commit_trust(call, tx, err);
}

int handle_pool_enable_client_certificate_auth(struct call *call,
                                               const struct pool_enable_client_certificate_auth_args *args,
                                               struct api_err *err)
{
    size_t len = strlen(args->name);
    if (len == 0 || len > 253 || strpbrk(args->name, " \t\r\n*"))
        return err_invalid_value(err, "name", args->name);
    return set_client_auth(call, args->self, true, args->name, err);
}

int handle_pool_disable_client_certificate_auth(struct call *call,
                                                const struct pool_disable_client_certificate_auth_args *args,
                                                struct api_err *err)
{
    return set_client_auth(call, args->self, false, "", err);
}

int handle_pool_rotate_secret(struct call *call, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    if (pool && pool->ha_enabled)
        return err_ha_is_enabled(err);
    return auth_rotate_pool_secret(call->server, err);
}
