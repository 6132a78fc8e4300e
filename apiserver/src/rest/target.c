/* Paths of REST: which class, object or message they name. The names are those of the model. */
#include "internal.h"

#include <base/mem.h>
#include <stdio.h>

const struct class_desc *class_of_collection(const char *name, size_t len)
{
    for (size_t i = 0; i < model_class_count; i++) {
        const char *collection = model_classes[i].collection;
        if (collection && strlen(collection) == len && strncmp(collection, name, len) == 0)
            return &model_classes[i];
    }
    return NULL;
}

const struct method_desc *message_of(const struct class_desc *cls, const char *name)
{
    AUTO_FREE char *full = xasprintf("%s.%.100s", cls->name, name);
    const struct method_desc *message = method_find(full, strlen(full));
    if (!message ||
        (message->flags & (METHOD_NO_SESSION | METHOD_HIDDEN | METHOD_POOL_INTERNAL | METHOD_REMOVED)))
        return NULL;
    return message;
}

/* The setter of a field is PATCH's, not an action. */
static bool sets_field(const struct method_desc *message)
{
    const char *name = strchr(message->name, '.') + 1;
    return strncmp(name, "set_", 4) == 0 && message->param_count == 2 && public_field(message->cls, name + 4);
}

bool message_is_action(const struct method_desc *message, bool *object)
{
    const char *name = strchr(message->name, '.') + 1;
    if (message->kind != METHOD_CUSTOM || streq(name, "create") || streq(name, "destroy") ||
        sets_field(message))
        return false;
    const struct type *first = message->param_count ? message->params[0].type : NULL;
    *object = first && first->kind == TYPE_REF && first->cls == message->cls;
    return true;
}

static bool nothing(char why[static TARGET_WHY_SIZE], const char *before, const char *name, size_t len,
                    const char *after)
{
    snprintf(why, TARGET_WHY_SIZE, "%s'%.*s'%s", before, len > 60 ? 60 : (int)len, name, after);
    return false;
}

static bool parse_action(const char *name, struct target *out, char why[static TARGET_WHY_SIZE])
{
    bool object;
    out->kind = TARGET_ACTION;
    out->message = message_of(out->cls, name);
    if (!out->message || !message_is_action(out->message, &object))
        return nothing(why, "There is no action ", name, strlen(name),
                       " here; /api/v1/openapi.json lists what there is.");
    if (object != (out->uuid[0] != '\0'))
        return nothing(why, "Action ", name, strlen(name),
                       object ? " is about one object: put its uuid in front of /actions."
                              : " is about the whole class: leave the uuid out.");
    return true;
}

/* What is below a disk beside its actions. */
static bool parse_bytes(const char *rest, struct target *out)
{
    static const char uploads[] = "/uploads";
    struct ref uuid;
    if (streq(rest, "/content")) {
        out->kind = TARGET_CONTENT;
        return true;
    }
    if (strncmp(rest, uploads, sizeof(uploads) - 1) != 0)
        return false;
    rest += sizeof(uploads) - 1;
    out->kind = *rest ? TARGET_UPLOAD : TARGET_UPLOADS;
    if (*rest == '\0')
        return true;
    if (*rest != '/' || strlen(rest + 1) != UUID_TEXT_SIZE - 1)
        return false;
    memcpy(out->part, rest + 1, UUID_TEXT_SIZE);
    return uuid_parse(out->part, &uuid);
}

bool target_parse(const char *path, struct target *out, char why[static TARGET_WHY_SIZE])
{
    static const struct {
        const char *path;
        enum target_kind kind;
    } fixed[] = {{"/sessions", TARGET_SESSIONS}, {"/session", TARGET_SESSION},
                 {"/tokens", TARGET_TOKENS},     {"/apply", TARGET_APPLY},
                 {"/state", TARGET_STATE},       {"/undo", TARGET_UNDO},
                 {"/events", TARGET_EVENTS},     {"/openapi.json", TARGET_DESCRIPTION}};
    static const struct {
        const char *path, *after; /* a uuid between them */
        enum target_kind kind;
    } numbered[] = {{"/tokens/", "", TARGET_TOKEN}, {"/plans/", "/apply", TARGET_PLAN_APPLY}};
    struct ref uuid;
    *out = (struct target){0};
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        if (streq(path, fixed[i].path)) {
            out->kind = fixed[i].kind;
            return true;
        }
    for (size_t i = 0; i < ARRAY_LEN(numbered); i++) {
        size_t len = strlen(numbered[i].path);
        size_t end = len + UUID_TEXT_SIZE - 1;
        if (strncmp(path, numbered[i].path, len) != 0 || strlen(path) < end ||
            !streq(path + end, numbered[i].after))
            continue;
        memcpy(out->uuid, path + len, UUID_TEXT_SIZE - 1);
        out->kind = numbered[i].kind;
        if (uuid_parse(out->uuid, &uuid))
            return true;
        return nothing(why, "", out->uuid, strlen(out->uuid), " is no uuid.");
    }
    const char *name = path + (*path == '/');
    size_t len = strcspn(name, "/");
    out->cls = class_of_collection(name, len);
    if (!out->cls)
        return nothing(why, "There is no ", name, len, " here; /api/v1/openapi.json lists what there is.");
    const char *rest = name + len;
    if (streq(rest, "") || streq(rest, "/"))
        return true; /* TARGET_COLLECTION */
    rest++;
    if (strncmp(rest, "actions/", 8) == 0)
        return parse_action(rest + 8, out, why);
    len = strcspn(rest, "/");
    if (len != UUID_TEXT_SIZE - 1)
        return nothing(why, "", rest, len, " is no uuid.");
    memcpy(out->uuid, rest, len);
    if (!uuid_parse(out->uuid, &uuid))
        return nothing(why, "", rest, len, " is no uuid.");
    rest += len;
    out->kind = TARGET_OBJECT;
    if (*rest == '\0')
        return true;
    if (strncmp(rest, "/actions/", 9) == 0)
        return parse_action(rest + 9, out, why);
    if (out->cls == CLASS_VDI && parse_bytes(rest, out))
        return true;
    return nothing(why, "", rest, strlen(rest), " is nothing below an object; there is /actions/{name}.");
}
