/* The one for agents is renewed with its key, so that one write of one file replaces it. */
#include "own_certificates.h"

#include "certificates.h"
#include "front.h"
#include "shown_leaf.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <sys/stat.h>

#define CA_DAYS 7300
#define PEM_MAX (256 * 1024)

struct own {
    char *ca, *ca_key;
    char *server, *server_key; /* shown to clients */
    char *agents, *agents_key; /* shown to agents */
};

static void own_done(struct own *own)
{
    char *const paths[] = {own->ca, own->ca_key, own->server, own->server_key, own->agents, own->agents_key};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        free(paths[i]);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int facts_of(const char *path, struct pki_facts *out)
{
    struct pki_error cause;
    size_t len;
    AUTO_FREE char *pem = file_read(path, PEM_MAX, &len);
    if (!pem)
        snprintf(cause.text, sizeof(cause.text), "%s", strerror(errno));
    if (pem && pki_describe(pem, len, out, &cause) == 0)
        return 0;
    log_error("certificates", "a certificate cannot be read", "file", path, "cause", cause.text);
    return -1;
}

static const struct pki_leaf for_agents = {.common_name = "poold",
                                           .dns = (const char *const[]){"poold.corral.internal", NULL},
                                           .usage = PKI_CLIENT,
                                           .days = CERTIFICATE_DAYS};

static int make_for_agents(const struct own *own)
{
    struct pki_error cause;
    if (pki_issue_files(own->ca, own->ca_key, &for_agents, own->agents, own->agents_key, &cause) == 0)
        return 0;
    log_error("certificates", "a certificate could not be made", "file", own->agents, "cause", cause.text);
    return -1;
}

static int reissue(const struct own *own, const char *path, const char *key, const struct pki_leaf *leaf,
                   struct pki_error *cause)
{
    AUTO_FREE char *request = NULL, *cert = NULL, *ca = file_read(own->ca, PEM_MAX, NULL);
    if (!ca || pki_create_request("poold", key, &request, cause) < 0 ||
        pki_issue_from_request(own->ca, own->ca_key, request, strlen(request), leaf, &cert, cause) < 0)
        return -1;
    AUTO_FREE char *chain = xasprintf("%s%s", cert, ca);
    if (file_write_atomic(path, chain, strlen(chain), 0644) == 0)
        return 0;
    snprintf(cause->text, sizeof(cause->text), "it cannot be written: %s", strerror(errno));
    return -1;
}

/* Agents trust the CA, so nobody has to be told of a new one. */
static void renew_for_agents(const struct own *own, const struct pki_facts *ca, const struct pki_facts *facts)
{
    int64_t now = clock_unix_seconds();
    /* Made by a clock that was ahead: nobody accepts it for years. */
    bool too_early = now < facts->not_before && now >= ca->not_before;
    struct pki_error cause = {.text = "the CA cannot be read"};
    char when[PKI_VALIDITY_SIZE];
    if (facts->not_after - now > CERTIFICATE_RENEW_S && !too_early)
        return;
    pki_validity(facts->not_before, facts->not_after, when);
    if (reissue(own, own->agents, own->agents_key, &for_agents, &cause) == 0)
        log_info("certificates", "the certificate that agents know the server by was renewed", "file",
                 own->agents, "former", when);
    else
        log_error("certificates", "the certificate that agents know the server by cannot be renewed", "file",
                  own->agents, "former", when, "cause", cause.text);
}

/* Clients that trust the CA do not notice. */
static void name_for_clients(const struct own *own, const struct server *server)
{
    AUTO_FREE char *cert = file_read(own->server, PEM_MAX, NULL), *ca = file_read(own->ca, PEM_MAX, NULL);
    AUTO_SHOWN_LEAF struct shown_leaf wanted;
    struct pki_error cause = {.text = "the CA cannot be read"};
    shown_leaf_make(server, &wanted);
    const char *missing = cert && ca ? shown_leaf_missing(&wanted, cert, ca) : NULL;
    if (!missing)
        return;
    if (reissue(own, own->server, own->server_key, &wanted.leaf, &cause) == 0)
        log_info("certificates", "the certificate that clients are shown was made anew, with further names",
                 "file", own->server, "new", missing);
    else
        log_error("certificates",
                  "the certificate that clients are shown lacks a name, and cannot be made anew", "file",
                  own->server, "missing", missing, "cause", cause.text);
}

static void tell(const char *path, const struct pki_facts *facts)
{
    int64_t now = clock_unix_seconds();
    char when[PKI_VALIDITY_SIZE];
    pki_validity(facts->not_before, facts->not_after, when);
    if (now < facts->not_before)
        log_error("certificates",
                  "the pool's CA is not good yet, so hosts and clients are refused: set this machine's clock",
                  "file", path, "validity", when);
    else if (now >= facts->not_after)
        log_error("certificates", "the pool's CA has ended: hosts and clients are refused", "file", path,
                  "validity", when, "help", "docs/administration.md, Certificates that end");
    else if (facts->not_after - now <= CERTIFICATE_RENEW_S)
        log_warn("certificates", "the pool's CA ends soon", "file", path, "validity", when, "help",
                 "docs/administration.md, Certificates that end");
}

static int make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    log_error("certificates", "a folder could not be made", "folder", path, "cause", strerror(errno));
    return -1;
}

/* Another CA than the one that hosts trust would look like a start that went well. */
static int make_ca(const struct own *own)
{
    struct pki_error cause = {
        .text = "ca.pem is missing, but other certificates of the pool are there: put ca.pem and "
                "ca.key back from a copy of the folder pki"};
    if (exists(own->ca)) {
        if (!exists(own->ca_key))
            log_error("certificates",
                      "the key of the pool's CA is missing: no host can join, no certificate be renewed",
                      "file", own->ca_key, "help", "put it back from a copy of the folder pki");
        return 0;
    }
    if (!exists(own->server) && !exists(own->agents) &&
        pki_create_ca("Corral pool", CA_DAYS, own->ca, own->ca_key, &cause) == 0)
        return 0;
    log_error("certificates", "the pool's certificate authority could not be made", "cause", cause.text);
    return -1;
}

static void own_init(struct own *own, const char *state_dir)
{
    *own = (struct own){xasprintf("%s/pki/ca.pem", state_dir),     xasprintf("%s/pki/ca.key", state_dir),
                        xasprintf("%s/pki/server.pem", state_dir), xasprintf("%s/pki/server.key", state_dir),
                        xasprintf("%s/pki/poold.pem", state_dir),  xasprintf("%s/pki/poold.key", state_dir)};
}

static int make_missing(const struct own *own, const struct server *server)
{
    AUTO_FREE char *dir = xasprintf("%s/pki", server->state_dir);
    if (make_folder(dir) < 0 || make_ca(own) < 0)
        return -1;
    if ((!exists(own->server) || !exists(own->server_key)) &&
        front_make_leaf(server, own->server, own->server_key) < 0)
        return -1;
    return exists(own->agents) && exists(own->agents_key) ? 0 : make_for_agents(own);
}

static void look(const struct own *own)
{
    struct pki_facts ca, agents;
    if (facts_of(own->ca, &ca) < 0 || facts_of(own->agents, &agents) < 0)
        return;
    renew_for_agents(own, &ca, &agents);
    tell(own->ca, &ca);
}

int own_certificates_make(const struct server *server)
{
    CLEANUP(own_done) struct own own;
    own_init(&own, server->state_dir);
    if (make_missing(&own, server) < 0)
        return -1;
    name_for_clients(&own, server);
    look(&own);
    return 0;
}

void own_certificates_look(const char *state_dir)
{
    CLEANUP(own_done) struct own own;
    own_init(&own, state_dir);
    look(&own);
}
