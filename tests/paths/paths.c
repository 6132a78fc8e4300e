/* Does each hot path a number of times, for compare.py, which counts the instructions between two calls of
 * next_path. Prints the paths' names, one a line.
 *
 * Usage: hot_paths DATABASE (which is made) */
#include <base/json.h>
#include <base/mem.h>
#include <codec/xml_request.h>
#include <db/store.h>
#include <gate/decode.h>
#include <gate/expr.h>
#include <model/method.h>
#include <model/rows.h>
#include <stdio.h>

#define TIMES 100 /* compare.py divides by it */
#define VMS 100
#define REFERENCE "OpaqueRef:01234567-89ab-cdef-0123-456789abcdef"

#define NAMESAKES 400

static struct store *memory, *disk, *crowd;
static struct ref vms[VMS];

static _Noreturn void wrong(const char *what)
{
    fprintf(stderr, "hot_paths: %s\n", what);
    exit(1);
}

/* The gate's, for arguments that it refuses: these are good. */
int fail_internal(struct api_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
int fail_internal(struct api_err *err, const char *format, ...)
{
    (void)err;
    wrong(format);
}

__attribute__((noinline)) void next_path(void);
void next_path(void)
{
    __asm__ volatile("");
}

/* ---- what the paths work on ---- */

static struct store *open_store(const char *path)
{
    struct store *store;
    struct store_err err;
    const struct store_config config = {.path = path};
    if (store_open(&store, &config, &err) != 0)
        wrong(err.text);
    return store;
}

static void commit(struct tx *tx)
{
    struct store_err err;
    if (tx_commit(tx, NULL, &err) != 0)
        wrong(err.text);
}

/* References that are the same in each run, and so are the tries. */
static void make_vms(struct store *store)
{
    struct tx *tx = store_begin(store);
    for (int i = 0; i < VMS; i++) {
        vms[i] = (struct ref){.hi = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15, .lo = (uint64_t)i};
        struct vm_row *vm = vm_row_mut(tx_create_as(tx, CLASS_VM, vms[i]));
        AUTO_FREE char *name = xasprintf("vm %d", i);
        str_assign(&vm->name_label, name);
        vm->is_a_template = i % 2;
    }
    commit(tx);
}

/* VMs of one name, all for one storage repository: what is looked for among them is found at once. */
static void make_namesakes(struct store *store)
{
    struct tx *tx = store_begin(store);
    struct ref sr = {.hi = 1, .lo = 1};
    tx_create_as(tx, CLASS_SR, sr);
    for (int i = 0; i < NAMESAKES; i++) {
        struct ref ref = {.hi = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15, .lo = (uint64_t)i};
        struct vm_row *vm = vm_row_mut(tx_create_as(tx, CLASS_VM, ref));
        str_assign(&vm->name_label, "namesake");
        vm->suspend_SR = sr;
    }
    commit(tx);
}

static void describe(struct store *store, int number)
{
    AUTO_FREE char *text = xasprintf("change %06d", number);
    struct tx *tx = store_begin(store);
    str_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, vms[number % VMS]))->name_description, text);
    commit(tx);
}

/* ---- the paths ---- */

static void read_json(int number)
{
    static const char text[] =
        "{\"jsonrpc\":\"2.0\",\"method\":\"VM.set_name_description\",\"params\":[\"" REFERENCE
        "\",\"" REFERENCE "\",\"some words of a user\"],\"id\":1}";
    struct json_error error;
    (void)number;
    json_t *request = json_parse(text, sizeof(text) - 1, &error);
    if (!request)
        wrong(error.text);
    json_decref(request);
}

static void read_xml(int number)
{
    static const char text[] =
        "<?xml version='1.0'?><methodCall><methodName>VM.set_name_description</methodName><params>"
        "<param><value><string>" REFERENCE "</string></value></param><param><value>" REFERENCE
        "</value></param>"
        "<param><value><string>some words of a user</string></value></param></params></methodCall>";
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request;
    (void)number;
    if (xml_request_parse(text, sizeof(text) - 1, &request, error) < 0)
        wrong(error);
    xml_request_done(&request);
}

static void decode(int number)
{
    static const char name[] = "VM.set_name_description";
    const struct method_desc *method = method_find(name, sizeof(name) - 1);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *params = json_pack("[s, s]", REFERENCE, "some words of a user");
    void *args;
    (void)number;
    if (decode_args(method, params, DECODE_STRICT, &args, &err) < 0)
        wrong(err.code);
    args_free(method, args);
}

static void change_in_memory(int number)
{
    describe(memory, number);
}

static void change_on_disk(int number)
{
    describe(disk, number);
}

/* The record of a new version, which remembers none yet. */
static void record(int number, const struct fragment *(*form)(const struct row *row))
{
    describe(memory, number + 1000);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(memory);
    form(snapshot_get(snap, CLASS_VM, vms[number % VMS]));
}

static void record_json(int number)
{
    record(number, row_json);
}

static void record_xml(int number)
{
    record(number, row_xml);
}

static bool count_match(const struct row *row, void *arg)
{
    return expr_matches(arg, row) || true;
}

static void filter(int number)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(memory);
    struct expr *expr = expr_parse("field \"is_a_template\" = \"false\" and field \"name__label\" = \"vm 7\"",
                                   CLASS_VM, &err);
    (void)number;
    if (!expr)
        wrong(err.code);
    snapshot_each(snap, CLASS_VM, count_match, expr);
    expr_free(expr);
}

static void check(int number)
{
    struct store_err err;
    (void)number;
    if (store_check(crowd, &err) != 0)
        wrong(err.text);
}

static const struct {
    const char *name;
    void (*run)(int number);
} paths[] = {
    {"a JSON-RPC request is read", read_json},
    {"an XML-RPC request is read", read_xml},
    {"a call's arguments are decoded", decode},
    {"a change in memory", change_in_memory},
    {"a durable change", change_on_disk},
    {"a change, and the record as JSON", record_json},
    {"a change, and the record as XML", record_xml},
    {"a filter over 100 VMs", filter},
    {"a check of 400 VMs of one name", check},
};

int main(int argc, char **argv)
{
    if (argc != 2)
        wrong("usage: hot_paths DATABASE");
    memory = open_store(NULL);
    make_vms(memory);
    disk = open_store(argv[1]);
    make_vms(disk);
    crowd = open_store(NULL);
    make_namesakes(crowd);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        for (int k = 0; k < VMS; k++) /* what is made once */
            paths[i].run(k);
        next_path();
        for (int k = 0; k < TIMES; k++)
            paths[i].run(VMS + k);
        next_path();
        printf("%s\n", paths[i].name);
    }
    store_close(memory);
    store_close(disk);
    store_close(crowd);
    return 0;
}
