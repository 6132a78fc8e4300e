/* Plugging into a domain whose device model is a script on the other end of a socket: what the driver does
 * when that refuses. */
#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <qemu/internal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define VM "11111111-1111-4111-8111-111111111111"
#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\n"
/* QEMU 7.2's words. */
#define INDEX_TAKEN "The bootindex 2 has already been used"

struct world {
    char dir[32];
    struct hv_driver_state state;
    struct qemu_domain *domain;
    pthread_t model;
    int peer;
    /* The script: how often device_add is refused and with which words, whether the call is cancelled before
     * the answer, and how long that takes. */
    int refusals;
    const char *words;
    _Atomic bool *cancel;
    int pause_ms;
    /* What came of it; read once the thread has ended. */
    int asked;
    json_t *last;
};
static struct world w;

/* ---- the device model ---- */

static json_t *device_add(json_t *arguments)
{
    bool same = !w.last || json_equal(w.last, arguments);
    json_decref(w.last);
    w.last = json_incref(arguments);
    if (w.cancel)
        atomic_store(w.cancel, true);
    poll(NULL, 0, w.pause_ms);
    if (w.asked++ >= w.refusals && same)
        return json_pack("{s:{}}", "return");
    return json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc",
                     same ? w.words : "Another device than before");
}

static json_t *answer(const json_t *command)
{
    const char *name = json_string_value(json_object_get(command, "execute"));
    if (streq(name, "qom-list"))
        return json_pack("{s:[]}", "return");
    return streq(name, "device_add") ? device_add(json_object_get(command, "arguments"))
                                     : json_pack("{s:{}}", "return");
}

static void *device_model(void *arg)
{
    FILE *in = fdopen(w.peer, "r");
    char *line = NULL;
    size_t size = 0;
    (void)arg;
    while (getline(&line, &size, in) > 0) {
        json_t *command AUTO_JSON = json_loads(line, 0, NULL);
        json_t *reply AUTO_JSON = answer(command);
        json_object_set(reply, "id", json_object_get(command, "id"));
        char *text AUTO_FREE = json_dumps(reply, JSON_COMPACT);
        dprintf(w.peer, "%s\n", text);
    }
    free(line);
    fclose(in);
    return NULL;
}

/* ---- the domain ---- */

static void lost(void *arg, const char *why)
{
    (void)arg;
    (void)why;
}

static void nothing(void *arg, const char *name, const json_t *data)
{
    (void)arg;
    (void)name;
    (void)data;
}

static void setup(void)
{
    struct hv_err err = {0};
    int pair[2];
    snprintf(w.dir, sizeof(w.dir), "/tmp/corral-hotplug-XXXXXX");
    cr_assert(mkdtemp(w.dir));
    cr_assert_eq(rundir_prepare(w.dir, &err), 0, "%s", err.text);
    w.state.loop = loop_new("test");
    pthread_mutex_init(&w.state.lock, NULL);
    w.domain = domain_new(&w.state, VM);
    cr_assert_eq(rundir_create(w.dir, VM, &w.domain->dir, &err), 0, "%s", err.text);
    domain_config_init(&w.domain->record.config);
    str_assign(&w.domain->record.config.uuid, VM);
    w.domain->record.layout = qemu_layout_new(&w.domain->record.config);
    w.domain->info.state = DOMAIN_STATE_RUNNING;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    w.peer = pair[1];
    cr_assert_gt(dprintf(w.peer, GREETING), 0);
    cr_assert_eq(pthread_create(&w.model, NULL, device_model, NULL), 0);
    w.domain->qmp = qmp_new(w.state.loop, pair[0], &(struct qmp_callbacks){.event = nothing, .lost = lost});
    domain_table_add(&w.state, w.domain);
}

static void hang_up(void *arg)
{
    (void)arg;
    qmp_close(TAKE_PTR(w.domain->qmp));
}

static void await_model(void)
{
    loop_call(w.state.loop, hang_up, NULL);
    pthread_join(w.model, NULL);
}

static void teardown(void)
{
    json_decref(w.last);
    rundir_remove(w.dir, VM, &w.domain->dir);
    domain_table_remove(&w.state, w.domain);
    domain_unref(w.domain);
    loop_free(w.state.loop);
    free(w.state.domains);
    const char *const argv[] = {"rm", "-rf", w.dir, NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc rm;
    cr_assert_eq(proc_start(&spec, &rm), 0);
    proc_wait(&rm, -1, NULL);
}

TestSuite(hotplug, .init = setup, .fini = teardown, .timeout = 120);

static int plug(const _Atomic bool *cancelled, struct hv_err *err)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + 60000, .cancelled = cancelled};
    struct domain_nic nic;
    domain_nic_init(&nic);
    nic.index = 1;
    str_assign(&nic.mac, "52:54:00:12:34:56");
    int outcome = qemu_nic_plug(&w.state, VM, &nic, &deadline, err);
    domain_nic_done(&nic);
    await_model();
    return outcome;
}

/* The domain has the card with a place of its own, or neither. */
static void has_card(bool wanted)
{
    char id[QEMU_DEVICE_ID_SIZE];
    cr_assert_eq(w.domain->record.config.nics_count, (size_t)wanted);
    cr_assert_eq(qemu_layout_port(w.domain->record.layout, qemu_nic_id(1, id)) >= 0, wanted);
}

/* QEMU frees the boot index of a device a moment after it has said that the device is gone. */
Test(hotplug, a_boot_index_that_is_let_go)
{
    struct hv_err err = {0};
    w.refusals = 2;
    w.words = INDEX_TAKEN;
    cr_assert_eq(plug(NULL, &err), 0, "%s", err.text);
    cr_assert_eq(w.asked, 3);
    has_card(true);
}

Test(hotplug, a_boot_index_while_the_call_is_cancelled)
{
    struct hv_err err = {0};
    _Atomic bool cancelled = false;
    w.refusals = 1000000;
    w.words = INDEX_TAKEN;
    w.cancel = &cancelled;
    cr_assert_eq(plug(&cancelled, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_CANCELLED, "%s", err.text);
    cr_assert_eq(w.asked, 1);
    has_card(false);
}

/* What QEMU was told to make it makes: the domain has it then. */
Test(hotplug, a_cancellation_before_the_answer)
{
    struct hv_err err = {0};
    _Atomic bool cancelled = false;
    w.cancel = &cancelled;
    w.pause_ms = 500;
    cr_assert_eq(plug(&cancelled, &err), 0, "%s", err.text);
    has_card(true);
}

Test(hotplug, another_refusal_is_final)
{
    struct hv_err err = {0};
    w.refusals = 1000000;
    w.words = "Bus 'port1' does not support hotplugging";
    cr_assert_eq(plug(NULL, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEVICE_MODEL, "%s", err.text);
    cr_assert(strstr(err.text, "hotplugging"), "%s", err.text);
    cr_assert_eq(w.asked, 1);
    has_card(false);
}
