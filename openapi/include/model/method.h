/* Messages of the API as rows of a table: everything about a call that does not depend on its
 * meaning. The gate (apiserver/gate) reads it; the generator writes it. Constant; any thread. */
#pragma once
#include <model/model.h>

enum method_kind {
    METHOD_CUSTOM, /* has a handler, or is not built */
    METHOD_CREATE, /* generated constructor: one record */
    METHOD_DESTROY,
    METHOD_GET_BY_UUID,
    METHOD_GET_BY_NAME_LABEL,
    METHOD_GET_RECORD,
    METHOD_GET_ALL,
    METHOD_GET_ALL_RECORDS,
    METHOD_GET_ALL_WHERE,
    METHOD_GET_ALL_RECORDS_WHERE,
    METHOD_GETTER,
    METHOD_SETTER,
    METHOD_ADD,    /* key and value to a map, or member to a set */
    METHOD_REMOVE, /* key of a map, or member of a set */
};

enum method_flag {
    METHOD_ASYNC = 1 << 0,         /* may be called as Async.X */
    METHOD_NO_SESSION = 1 << 1,    /* its first parameter is not a session */
    METHOD_HIDDEN = 1 << 2,        /* not in the published reference */
    METHOD_POOL_INTERNAL = 1 << 3, /* only between members of a pool */
    METHOD_SECRET_ARGS = 1 << 4,   /* arguments are never logged */
    METHOD_REMOVED = 1 << 5,       /* answers MESSAGE_REMOVED */
    METHOD_DEPRECATED = 1 << 6,
    METHOD_HANDLER = 1 << 7,      /* has a handler function */
    METHOD_GENERIC = 1 << 8,      /* create or destroy done by generic code */
    METHOD_INLINE = 1 << 9,       /* never blocks: may run on a network thread */
    METHOD_REHEARSED = 1 << 10,   /* its handler reaches rows and agents alone: plans run it on a copy */
    METHOD_CLIENT_CERT = 1 << 12, /* a login by client certificate may call it, beyond what read-only may */
};

/* Roles from weakest to strongest; each includes those before it. ROLE_INTERNAL: the local root or
 * another member of the pool only. */
enum role {
    ROLE_READ_ONLY,
    ROLE_VM_OPERATOR,
    ROLE_VM_ADMIN,
    ROLE_VM_POWER_ADMIN,
    ROLE_POOL_OPERATOR,
    ROLE_POOL_ADMIN,
    ROLE_INTERNAL,
};
const char *role_name(enum role role);
/* The role that a person may have by this name; -1: none. */
int role_find(const char *name);

struct param_desc {
    const char *name;
    const struct type *type;
    uint32_t offset; /* of its value in the arguments struct */
    bool optional;   /* then `initial` stands for it; only trailing parameters are */
    union cell initial;
};

/* A map key (or "prefix.*") that a weaker role than the message's may set, or only a stronger one. */
struct key_role {
    const char *key;
    enum role role;
};

struct method_desc {
    const char *name; /* "VM.start" */
    const char *doc;
    const struct class_desc *cls;
    const struct field_desc *field; /* getter, setter, add, remove */
    const struct type *result;
    const struct param_desc *params; /* without the session */
    const struct key_role *key_roles;
    uint32_t args_size;
    uint16_t flags;
    uint16_t index; /* in model_methods */
    uint8_t kind;
    uint8_t role;
    uint8_t param_count, required_count, key_role_count;
    /* The operation that the gate marks on the object named by the parameter, while the call runs:
     * index into the enum of that class's current_operations. -1: none. */
    int8_t operation_param;
    uint8_t operation;
};

extern const struct method_desc model_methods[];
extern const uint16_t model_method_count;

/* "VM.start" or "VM_start"; without any "Async." before it. NULL: no such message. */
const struct method_desc *method_find(const char *name, size_t len);

/* Arguments of the generated messages. Custom ones have a struct each in <model/args.h>. */
struct args_self {
    struct ref self;
};
struct args_text {
    const char *text; /* uuid, label or expression */
};
struct args_value {
    struct ref self;
    union cell value;
};
struct args_pair {
    struct ref self;
    union cell key, value;
};
struct args_create {
    const struct row *record; /* a row of the class that was never in the store */
};
