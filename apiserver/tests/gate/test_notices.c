/* Alerts that no call makes: what they say, when, and that they are told once. */
#include "trial.h"

#include <base/buf.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <notices.h>
#include <stdio.h>
#include <string.h>

#define DAY 86400
#define NOW 1800000000 /* 2027-01-15T08:00:00Z */

static struct trial_server trial;
static struct notices *n; /* of the test that made it */

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
    notices_free(n);
}

TestSuite(notices, .init = start, .fini = stop, .timeout = 120);

static void commit(struct tx *tx)
{
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
}

/* All alerts as "NAME priority class body\n", so that a test says which there are, and that no other is. */
static bool add_text(const struct row *row, void *arg)
{
    const struct message_row *m = message_row(row);
    buf_printf(arg, "%s %d %s %s\n", m->name, (int)m->priority, model_enum_cls.values[m->cls], m->body);
    return true;
}

static char *alerts(void)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    struct buf out = BUF_INIT;
    buf_add_str(&out, "");
    snapshot_each(snap, CLASS_message, add_text, &out);
    return buf_take(&out);
}

static void look(int64_t now)
{
    struct tx *tx = store_begin(trial.server.store);
    notices_certificates(tx, now);
    commit(tx);
}

Test(notices, certificates_that_end)
{
    static const struct {
        enum certificate_type type;
        int64_t left;
        const char *alert; /* NULL: none */
    } table[] = {
        {CERTIFICATE_TYPE_CA, 31 * DAY, NULL},
        {CERTIFICATE_TYPE_CA, 30 * DAY,
         "POOL_CA_CERTIFICATE_EXPIRING_30 3 Certificate <body><message>The trusted TLS server certificate is "
         "expiring soon.</message><date>2027-01-15T08:00:00Z</date></body>\n"},
        {CERTIFICATE_TYPE_CA, 14 * DAY + 1, "POOL_CA_CERTIFICATE_EXPIRING_30 3 "},
        {CERTIFICATE_TYPE_CA, 14 * DAY, "POOL_CA_CERTIFICATE_EXPIRING_14 2 "},
        {CERTIFICATE_TYPE_CA, 7 * DAY, "POOL_CA_CERTIFICATE_EXPIRING_07 1 "},
        {CERTIFICATE_TYPE_CA, 0,
         "POOL_CA_CERTIFICATE_EXPIRED 1 Certificate <body><message>The trusted TLS server certificate has "
         "expired.</message>"},
        {CERTIFICATE_TYPE_PINNED, DAY, "POOL_PINNED_CERTIFICATE_EXPIRING_07 1 Certificate "},
        {CERTIFICATE_TYPE_HOST, DAY, "HOST_SERVER_CERTIFICATE_EXPIRING_07 1 Host "},
        {CERTIFICATE_TYPE_HOST_INTERNAL, 10 * DAY, "HOST_INTERNAL_CERTIFICATE_EXPIRING_14 2 Host "},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct tx *tx = store_begin(trial.server.store);
        struct ref host = tx_create(tx, CLASS_host)->ref;
        struct certificate_row *c = certificate_row_mut(tx_create(tx, CLASS_Certificate));
        struct ref ref = c->row.ref;
        c->type = table[i].type;
        c->not_after = NOW;
        c->host = host;
        commit(tx);
        /* Told once, and gone with a better certificate. */
        for (int round = 0; round < 2; round++) {
            look(NOW - table[i].left);
            AUTO_FREE char *told = alerts();
            const char *wanted = table[i].alert ? table[i].alert : "";
            cr_expect_eq(strncmp(told, wanted, strlen(wanted)), 0, "%zu: %s", i, told);
            cr_expect_eq(strchr(told, '\n'), *wanted ? told + strlen(told) - 1 : NULL, "%zu: %s", i, told);
        }
        look(NOW - 400 * DAY);
        AUTO_FREE char *left = alerts();
        cr_expect_str_eq(left, "", "%zu", i);
        tx = store_begin(trial.server.store);
        tx_delete(tx, CLASS_Certificate, ref);
        tx_delete(tx, CLASS_host, host);
        commit(tx);
    }
}

/* Without the dates, which are of now. */
static char *without_dates(char *text)
{
    for (char *at; (at = strstr(text, "<date>"));) {
        const char *end = strstr(at, "</date>");
        memmove(at, end + 7, strlen(end + 7) + 1);
    }
    return text;
}

Test(notices, logins_that_fail)
{
    n = notices_new(&trial.server);
    notices_tell_logins(n);
    notices_login_failed(n, "192.0.2.1", "<ann>");
    for (int i = 0; i < 3; i++)
        notices_login_failed(n, "", "bob");
    notices_tell_logins(n);
    notices_tell_logins(n);
    AUTO_FREE char *told = alerts();
    cr_assert_str_eq(without_dates(told),
                     "FAILED_LOGIN_ATTEMPTS 3 Pool <body><total>4</total><known><username>bob</username>"
                     "<number>3</number></known><known><username>&lt;ann&gt;</username><ip>192.0.2.1</ip>"
                     "<number>1</number></known></body>\n");
}

Test(notices, who_insists_is_named_among_many)
{
    n = notices_new(&trial.server);
    char long_name[400] = "";
    for (int i = 0; i < 199; i++)
        strcat(long_name, "ü");
    notices_login_failed(n, "192.0.2.1", long_name);
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%d", i);
        notices_login_failed(n, "192.0.2.2", name);
        notices_login_failed(n, "192.0.2.3", "eve");
    }
    notices_tell_logins(n);
    AUTO_FREE char *told = alerts();
    cr_assert(strstr(told, "<total>101</total><known><username>eve</username>"), "%s", told);
    cr_assert(strstr(told, "<unknown>42</unknown>"), "%s", told);
}

Test(notices, clocks_that_are_apart)
{
    struct tx *tx = store_begin(trial.server.store);
    struct host_row *row = host_row_mut(tx_create(tx, CLASS_host));
    str_assign(&row->name_label, "first");
    AUTO_STR const char *host = str_new(row->uuid);
    commit(tx);
    static const struct {
        int64_t seconds;
        size_t told; /* alerts until then */
    } table[] = {{0, 0}, {59, 0}, {-61, 1}, {-500, 1}, {40, 1}, {90, 1}, {5, 1}, {90, 2}};
    bool told = false;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        notices_clock(&trial.server, host, table[i].seconds * 1000000, &told);
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
        cr_expect_eq(snapshot_count(snap, CLASS_message), table[i].told, "%zu", i);
    }
    AUTO_FREE char *text = alerts();
    cr_assert(strstr(text, "HOST_CLOCK_SKEW_DETECTED 3 Host The clock of host 'first' is 61 seconds"), "%s",
              text);
}
