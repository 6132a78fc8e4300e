/* The list of all messages, and an echo. */
#include "system.h"

#include "answer.h"
#include <base/mem.h>
#include <jansson.h>
#include <model/errors.h>
#include <string.h>

#define LIST_METHODS "system.listMethods"
#define IS_ALIVE "system.isAlive:"

/* Any value: written as it came. */
static const struct type type_any = {.kind = TYPE_RECORD, .rep = REP_JSON, .name = "any"};

bool system_serves(const char *name)
{
    return streq(name, LIST_METHODS) || strncmp(name, IS_ALIVE, strlen(IS_ALIVE)) == 0;
}

static void list_methods(struct call *call)
{
    struct answer answer = answer_begin(call->form);
    answer_open(&answer, ANSWER_LIST);
    for (size_t i = 0; i < model_method_count; i++)
        answer_text(&answer, model_methods[i].name);
    answer_close(&answer);
    call->bare = true;
    answer_give(&answer, call);
}

int system_run(struct call *call, struct api_err *err)
{
    if (streq(call->name, LIST_METHODS)) {
        list_methods(call);
        return 0;
    }
    const json_t *first = json_array_get(call->params, 0);
    if (!first)
        return err_message_parameter_count_mismatch(err, call->name, "1", "0");
    call->result.json = json_incref((json_t *)(uintptr_t)first);
    call->result_type = &type_any;
    return 0;
}
