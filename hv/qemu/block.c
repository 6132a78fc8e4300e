/* Block nodes of a running device model (block.h). Every file is a descriptor in a set of its own, whose note
 * (opaque) is the name of the node that reads it. */
#include "block.h"
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

int block_command(const struct block *b, const char *name, json_t *moved)
{
    return domain_command(b->d, name, moved, b->deadline, NULL, b->err);
}

int block_current(const struct block *b, const char *device_id, char *node, size_t size)
{
    json_t *blocks AUTO_JSON = NULL, *block;
    size_t i;
    const char *qdev, *name;
    if (domain_command(b->d, "query-block", NULL, b->deadline, &blocks, b->err) < 0)
        return -1;
    node[0] = '\0';
    json_array_foreach(blocks, i, block)
    {
        if (json_get_string(block, "qdev", &qdev) && qemu_qdev_is(qdev, device_id) &&
            json_get_string(json_object_get(block, "inserted"), "node-name", &name))
            snprintf(node, size, "%s", name);
    }
    return 0;
}

/* `to` -1: a set of its own. */
static int add_to_set(const struct block *b, const char *owner, int fd, int64_t to, int64_t *set,
                      int64_t *added)
{
    json_t *result AUTO_JSON = NULL, *arguments AUTO_JSON = json_pack("{s:s}", "opaque", owner);
    if (to >= 0)
        json_object_set_new(arguments, "fdset-id", json_integer(to));
    int outcome = domain_execute(b->d, "add-fd", arguments, fd, b->deadline, &result, b->err);
    if (outcome == 0 && (!json_get_int(result, "fdset-id", set) || !json_get_int(result, "fd", added)))
        outcome = hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The device model did not take the image.");
    return outcome;
}

static int add_descriptor(const struct block *b, const char *owner, int fd, int64_t *set)
{
    int64_t added;
    return add_to_set(b, owner, fd, -1, set, &added);
}

int block_lend(const struct block *b, const char *node, int fd, struct block_loan *loan)
{
    json_t *sets AUTO_JSON = NULL, *set, *one;
    size_t i, k;
    const char *opaque;
    char file[QEMU_NODE_SIZE + 8];
    int64_t id = -1;
    snprintf(file, sizeof(file), "%s-file", node);
    if (domain_command(b->d, "query-fdsets", NULL, b->deadline, &sets, b->err) < 0)
        return -1;
    json_array_foreach(sets, i, set)
    {
        json_t *fds = json_object_get(set, "fds");
        json_array_foreach(fds, k, one)
        {
            if (json_get_string(one, "opaque", &opaque) && streq(opaque, file))
                json_get_int(set, "fdset-id", &id);
        }
    }
    if (id < 0)
        return hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not know the image's file.");
    return add_to_set(b, file, fd, id, &loan->set, &loan->fd);
}

void block_return(const struct block *b, const struct block_loan *loan)
{
    if (loan->fd >= 0)
        domain_command(b->d, "remove-fd",
                       json_pack("{s:I, s:I}", "fdset-id", (json_int_t)loan->set, "fd", (json_int_t)loan->fd),
                       b->deadline, NULL, NULL);
}

int block_chain(const struct block *b, const char *device_id, char (*nodes)[QEMU_NODE_SIZE], size_t max,
                size_t *count)
{
    json_t *stats AUTO_JSON = NULL, *one, *at = NULL;
    size_t i;
    const char *qdev, *name;
    if (domain_command(b->d, "query-blockstats", NULL, b->deadline, &stats, b->err) < 0)
        return -1;
    json_array_foreach(stats, i, one)
    {
        if (json_get_string(one, "qdev", &qdev) && qemu_qdev_is(qdev, device_id))
            at = one;
    }
    *count = 0;
    for (; at; at = json_object_get(at, "backing")) {
        if (*count == max || !json_get_string(at, "node-name", &name) || strlen(name) >= QEMU_NODE_SIZE)
            return hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The disk's images are not as they were made.");
        snprintf(nodes[(*count)++], QEMU_NODE_SIZE, "%s", name);
    }
    return 0;
}

/* The sets whose descriptor was added for that node go. */
static void remove_descriptors(const struct block *b, const char *owner)
{
    json_t *sets AUTO_JSON = NULL, *set, *one;
    size_t i, k;
    const char *opaque;
    int64_t id;
    if (domain_command(b->d, "query-fdsets", NULL, b->deadline, &sets, NULL) < 0)
        return;
    json_array_foreach(sets, i, set)
    {
        json_t *fds = json_object_get(set, "fds");
        json_array_foreach(fds, k, one)
        {
            if (json_get_string(one, "opaque", &opaque) && streq(opaque, owner) &&
                json_get_int(set, "fdset-id", &id))
                domain_command(b->d, "remove-fd", json_pack("{s:I}", "fdset-id", (json_int_t)id), b->deadline,
                               NULL, NULL);
        }
    }
}

static int drop_one(const struct block *b, const char *node)
{
    return domain_command(b->d, "blockdev-del", json_pack("{s:s}", "node-name", node), b->deadline, NULL,
                          NULL);
}

void block_remove_node(const struct block *b, const char *node)
{
    char file[QEMU_NODE_SIZE + 8];
    snprintf(file, sizeof(file), "%s-file", node);
    if (drop_one(b, node) == 0 && drop_one(b, file) == 0)
        remove_descriptors(b, file);
}

int block_add_image(const struct block *b, const char *node, const struct disk_node *image,
                    const char *backing)
{
    char file[QEMU_NODE_SIZE + 8];
    int64_t set;
    snprintf(file, sizeof(file), "%s-file", node);
    if (add_descriptor(b, file, image->fd, &set) < 0)
        return -1;
    if (block_command(b, "blockdev-add", qemu_file_node(file, set, image->format, image->read_only)) == 0) {
        if (block_command(b, "blockdev-add",
                          qemu_format_node(node, file, image->format, image->read_only, backing)) == 0)
            return 0;
        drop_one(b, file);
    }
    remove_descriptors(b, file);
    return -1;
}

int block_add_chain(const struct block *b, const char *name, const struct disk_chain *chain)
{
    char node[QEMU_NODE_SIZE], below[QEMU_NODE_SIZE] = "";
    for (size_t i = chain->count; i-- > 0;) {
        struct disk_node image = chain->nodes[i];
        image.read_only = i > 0 || image.read_only;
        qemu_node_name(name, i, node);
        if (block_add_image(b, node, &image, below[0] ? below : NULL) < 0)
            return -1;
        snprintf(below, sizeof(below), "%s", node);
    }
    return 0;
}

static bool is_of(const char *node, int64_t index)
{
    char name[24];
    int len = snprintf(name, sizeof(name), "drive%d", (int)index);
    return strncmp(node, name, (size_t)len) == 0 && (node[len] == '\0' || node[len] == '-');
}

void block_drop(const struct block *b, int64_t index)
{
    json_t *nodes AUTO_JSON = NULL, *node;
    size_t i;
    const char *name;
    if (domain_command(b->d, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), b->deadline, &nodes,
                       NULL) < 0)
        return;
    /* One can go once nothing stands on it, so each turn takes a layer off. */
    for (bool again = true; again;) {
        again = false;
        json_array_foreach(nodes, i, node)
        {
            if (json_get_string(node, "node-name", &name) && is_of(name, index) && drop_one(b, name) == 0) {
                remove_descriptors(b, name);
                json_array_remove(nodes, i--);
                again = true;
            }
        }
    }
}
