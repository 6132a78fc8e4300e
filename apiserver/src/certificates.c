/* Few rows: every search walks them all. */
#include "certificates.h"

#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>

struct search {
    struct ref host;
    enum certificate_type type;
    bool any_type;
    struct ref found[64];
    size_t count;
};

static bool match(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct certificate_row *c = certificate_row(row);
    if (ref_eq(c->host, s->host) && (s->any_type || c->type == s->type) && s->count < ARRAY_LEN(s->found))
        s->found[s->count++] = row->ref;
    return true;
}

void certificates_of_host(struct tx *tx, struct ref host, enum certificate_type type, const char *pem)
{
    struct search s = {.host = host, .type = type};
    struct pki_facts facts;
    struct pki_error cause;
    bool there = false;
    if (pki_describe(pem, strlen(pem), &facts, &cause) < 0) {
        log_warn("certificate", "what a host shows is no certificate", "host", REF_TEXT(host));
        return;
    }
    tx_each(tx, CLASS_Certificate, match, &s);
    for (size_t i = 0; i < s.count; i++) {
        const struct certificate_row *c = certificate_row(tx_get(tx, CLASS_Certificate, s.found[i]));
        if (!there && streq(c->fingerprint_sha256, facts.sha256))
            there = true;
        else
            tx_delete(tx, CLASS_Certificate, s.found[i]);
    }
    if (there)
        return;
    struct certificate_row *c = certificate_row_mut(tx_create(tx, CLASS_Certificate));
    c->type = type;
    c->host = host;
    c->not_before = facts.not_before;
    c->not_after = facts.not_after;
    str_assign(&c->fingerprint, facts.sha256);
    str_assign(&c->fingerprint_sha256, facts.sha256);
    str_assign(&c->fingerprint_sha1, facts.sha1);
}

void certificates_host_gone(struct tx *tx, struct ref host)
{
    struct search s = {.host = host, .any_type = true};
    tx_each(tx, CLASS_Certificate, match, &s);
    for (size_t i = 0; i < s.count; i++)
        tx_delete(tx, CLASS_Certificate, s.found[i]);
}

struct trusted {
    uint64_t purposes;
    struct buf out;
};

static bool add_trusted(const struct row *row, void *arg)
{
    struct trusted *t = arg;
    const struct certificate_row *c = certificate_row(row);
    bool fits = c->purpose == 0 || (c->purpose & t->purposes);
    if ((c->type == CERTIFICATE_TYPE_CA || c->type == CERTIFICATE_TYPE_PINNED) && fits)
        buf_add_str(&t->out, c->pem);
    return true;
}

char *certificates_trusted(const struct snapshot *snap, uint64_t purposes)
{
    struct trusted t = {.purposes = purposes};
    snapshot_each(snap, CLASS_Certificate, add_trusted, &t);
    return buf_take(&t.out);
}

static bool add_crls(const struct row *row, void *arg)
{
    const struct str_map *crls = pool_row(row)->crls;
    for (size_t i = 0; crls && i < crls->count; i++)
        buf_add_str(arg, crls->pairs[i].value);
    return true;
}

char *certificates_crls(const struct snapshot *snap)
{
    struct buf out = BUF_INIT;
    snapshot_each(snap, CLASS_pool, add_crls, &out);
    return buf_take(&out);
}
