/* The engine that keeps nothing. */
#include "engine.h"
#include <base/mem.h>

static int memory_load(struct engine *engine, const struct schema *schema, const struct engine_sink *sink,
                       struct engine_meta *meta, struct store_err *err)
{
    (void)engine, (void)schema, (void)sink, (void)err;
    *meta = (struct engine_meta){.fresh = true};
    return 0;
}

static enum engine_result memory_apply(struct engine *engine, const struct engine_batch *batch,
                                       struct store_err *err)
{
    (void)engine, (void)batch, (void)err;
    return ENGINE_DURABLE;
}

static uint64_t memory_size(struct engine *engine)
{
    (void)engine;
    return 0;
}

static void memory_close(struct engine *engine)
{
    free(engine);
}

struct engine *engine_memory_new(void)
{
    static const struct engine_ops ops = {memory_load, memory_apply, memory_size, memory_close};
    struct engine *engine = xmalloc(sizeof(*engine));
    engine->ops = &ops;
    return engine;
}
