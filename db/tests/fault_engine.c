#include "fault_engine.h"
#include <base/mem.h>
#include <sched.h>

struct fault_engine {
    struct engine engine;
    struct engine *inner;
    struct fault_control *control;
};

static int fault_load(struct engine *base, const struct schema *schema, const struct engine_sink *sink,
                      struct engine_meta *meta, struct store_err *err)
{
    struct fault_engine *engine = (struct fault_engine *)base;
    return engine->inner->ops->load(engine->inner, schema, sink, meta, err);
}

static enum engine_result fault_apply(struct engine *base, const struct engine_batch *batch,
                                      struct store_err *err)
{
    struct fault_engine *engine = (struct fault_engine *)base;
    struct fault_control *control = engine->control;
    control->waiting++;
    while (control->hold)
        sched_yield();
    control->waiting--;
    control->applied++;
    control->lazy += batch->lazy;
    switch ((enum fault)control->next) {
    case FAULT_NONE:
        break;
    case FAULT_DISK_FULL:
        store_err_set(err, STORE_E_DISK_FULL, "test: disk full");
        return ENGINE_NOT_APPLIED;
    case FAULT_IO:
        store_err_set(err, STORE_E_IO, "test: I/O error");
        return ENGINE_NOT_APPLIED;
    case FAULT_LOST:
        store_err_set(err, STORE_E_IO, "test: unknown");
        return ENGINE_UNKNOWN;
    case FAULT_WRITTEN:
        engine->inner->ops->apply(engine->inner, batch, err);
        store_err_set(err, STORE_E_IO, "test: unknown");
        return ENGINE_UNKNOWN;
    }
    return engine->inner->ops->apply(engine->inner, batch, err);
}

static uint64_t fault_size(struct engine *base)
{
    struct fault_engine *engine = (struct fault_engine *)base;
    return engine->inner->ops->size(engine->inner);
}

static void fault_close(struct engine *base)
{
    struct fault_engine *engine = (struct fault_engine *)base;
    engine->inner->ops->close(engine->inner);
    free(engine);
}

struct engine *fault_engine_new(struct engine *inner, struct fault_control *control)
{
    static const struct engine_ops ops = {fault_load, fault_apply, fault_size, fault_close};
    struct fault_engine *engine = xmalloc(sizeof(*engine));
    *engine = (struct fault_engine){{&ops}, inner, control};
    return &engine->engine;
}
