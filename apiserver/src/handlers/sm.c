/* SM.*: the kinds of SR that agents can drive. Their rows are made here; nobody changes them. */
#include "storage.h"
#include <base/mem.h>
#include <model/rows.h>

struct kind {
    const char *type, *label, *description;
    const char *const *features; /* what really works, in the words of SM.features */
    size_t feature_count;
    uint64_t formats;
    const char *location;
};

static const char *const file_features[] = {
    "SR_CREATE",  "SR_DELETE",     "SR_ATTACH",  "SR_DETACH",    "SR_SCAN",        "SR_UPDATE",
    "SR_STATS",   "VDI_CREATE",    "VDI_DELETE", "VDI_ATTACH",   "VDI_DETACH",     "VDI_RESIZE",
    "VDI_UPDATE", "VDI_INTRODUCE", "VDI_CLONE",  "VDI_SNAPSHOT", "VDI_CONFIG_CBT", "VDI_MIRROR",
};
static const char *const iso_features[] = {
    "SR_CREATE",  "SR_ATTACH",  "SR_DETACH",  "SR_SCAN",       "SR_UPDATE",
    "VDI_ATTACH", "VDI_DETACH", "VDI_UPDATE", "VDI_INTRODUCE",
};
static const struct kind kinds[] = {
    {"file", "Directory", "Disks as qcow2 or raw files in a directory of the host", file_features,
     ARRAY_LEN(file_features), (1u << IMAGE_FORMAT_TYPE_RAW) | (1u << IMAGE_FORMAT_TYPE_QCOW2),
     "absolute path of the directory on the host"},
    {"iso", "ISO library", "CD images in a directory of the host, read-only", iso_features,
     ARRAY_LEN(iso_features), 1u << IMAGE_FORMAT_TYPE_RAW,
     "absolute path of the directory that holds the images"},
};

/* What this version can do: a database of an earlier one is told. */
static void set_features(struct sm_row *sm, const struct kind *kind)
{
    str_set_assign(&sm->capabilities, str_set_new(kind->features, kind->feature_count));
    str_map_assign(&sm->features, NULL);
    for (size_t i = 0; i < kind->feature_count; i++)
        str_map_put(&sm->features, kind->features[i], "1");
}

static void add_kind(struct tx *tx, const struct kind *kind)
{
    struct sm_row *sm = sm_row_mut(tx_create(tx, CLASS_SM));
    str_assign(&sm->type, kind->type);
    str_assign(&sm->name_label, kind->label);
    str_assign(&sm->name_description, kind->description);
    str_assign(&sm->vendor, "Corral");
    str_assign(&sm->version, "1.0");
    str_assign(&sm->required_api_version, "1.0");
    str_assign(&sm->driver_filename, "hostd");
    str_map_put(&sm->configuration, "location", kind->location);
    set_features(sm, kind);
    sm->supported_image_formats = kind->formats;
}

struct search {
    const char *type;
    const struct sm_row *found;
};

static bool is_type(const struct row *row, void *arg)
{
    struct search *search = arg;
    if (streq(sm_row(row)->type, search->type))
        search->found = sm_row(row);
    return !search->found;
}

void storage_bootstrap(struct tx *tx)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct search search = {.type = kinds[i].type};
        tx_each(tx, CLASS_SM, is_type, &search);
        if (!search.found)
            add_kind(tx, &kinds[i]);
        else if (search.found->features == NULL || search.found->features->count != kinds[i].feature_count)
            set_features(sm_row_mut(tx_edit(tx, CLASS_SM, search.found->row.ref)), &kinds[i]);
    }
}

bool storage_kind_known(const struct snapshot *snap, const char *type)
{
    struct search search = {.type = type};
    snapshot_each(snap, CLASS_SM, is_type, &search);
    return search.found;
}
