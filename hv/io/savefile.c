/* Headers of saved domains (savefile.h). */
#include "savefile.h"
#include <base/buf.h>
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/secret.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

/* magic, version, length of the JSON, its sha256 as text; the JSON follows. */
static const char magic[8] = "CORRALsv";
#define VERSION 1u
#define FIXED 96
#define MIB (INT64_C(1) << 20)

int64_t hv_save_size(const struct domain_config *config)
{
    int64_t need = config->memory_bytes + config->memory_bytes / 128 + 128 * MIB;
    return (need + MIB - 1) / MIB * MIB;
}

void save_header_done(struct save_header *header)
{
    domain_config_done(&header->config);
    json_decref(header->layout);
    *header = (struct save_header){.state_bytes = 0};
}

static int write_all(int fd, const char *data, size_t len, off_t at, struct hv_err *err)
{
    if (file_write_at(fd, data, len, at) == 0)
        return 0;
    return hv_fail(err, errno == ENOSPC ? HV_ERR_KIND_NO_SPACE : HV_ERR_KIND_IO,
                   "The domain's state cannot be written: %s", strerror(errno));
}

int save_header_clear(int fd, struct hv_err *err)
{
    static const char nothing[FIXED];
    return write_all(fd, nothing, sizeof(nothing), 0, err);
}

static void header_text(const struct save_header *header, struct buf *text)
{
    buf_add_str(text, "{\"driver\":");
    json_write_string(text, header->driver);
    buf_add_str(text, ",\"driver_version\":");
    json_write_string(text, header->driver_version);
    buf_add_str(text, ",\"platform\":");
    json_write_string(text, header->platform);
    buf_printf(text, ",\"state_bytes\":%lld,\"config\":", (long long)header->state_bytes);
    wire_encode(&domain_config_desc, &header->config, text);
    if (header->layout) {
        buf_add_str(text, ",\"layout\":");
        json_write(text, header->layout);
    }
    buf_add_char(text, '}');
}

/* The part of fixed length that goes before this text. */
static int make_fixed(const struct buf *text, char fixed[static FIXED], struct hv_err *err)
{
    char sum[SHA256_TEXT_SIZE];
    if (text->len > SAVE_DATA_OFFSET - FIXED)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain's configuration is too long to be saved.");
    uint32_t version = htole32(VERSION), len = htole32((uint32_t)text->len);
    memset(fixed, 0, FIXED);
    memcpy(fixed, magic, sizeof(magic));
    memcpy(fixed + 8, &version, 4);
    memcpy(fixed + 12, &len, 4);
    memcpy(fixed + 16, sha256_text(text->data, text->len, sum), SHA256_TEXT_SIZE);
    return 0;
}

int save_header_format(const struct save_header *header, struct buf *out, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    char fixed[FIXED];
    header_text(header, &text);
    if (make_fixed(&text, fixed, err) < 0)
        return -1;
    buf_add(out, fixed, sizeof(fixed));
    buf_add(out, text.data, text.len);
    return 0;
}

int save_header_write(int fd, const struct save_header *header, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    char fixed[FIXED];
    header_text(header, &text);
    if (make_fixed(&text, fixed, err) < 0)
        return -1;
    /* The magic comes once all else is on disk. */
    if (write_all(fd, text.data, text.len, FIXED, err) < 0)
        return -1;
    if (fdatasync(fd) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's state cannot be written: %s", strerror(errno));
    if (write_all(fd, fixed, sizeof(fixed), 0, err) < 0)
        return -1;
    if (fdatasync(fd) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's state cannot be written: %s", strerror(errno));
    return 0;
}

static bool take_text(const json_t *json, const char *name, char *out, size_t size)
{
    const char *text;
    return json_get_string(json, name, &text) && (size_t)snprintf(out, size, "%s", text) < size;
}

int save_header_parse(const void *data, size_t len, struct save_header *header, struct hv_err *err)
{
    const char *bytes = data;
    uint32_t version, text_len;
    char sum[SHA256_TEXT_SIZE], complaint[WIRE_COMPLAINT_SIZE];
    if (len < FIXED || memcmp(bytes, magic, sizeof(magic)) != 0)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The disk does not hold a suspended domain.");
    memcpy(&version, bytes + 8, 4);
    memcpy(&text_len, bytes + 12, 4);
    if (le32toh(version) != VERSION)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain was suspended by another version: %u, not %u.",
                       le32toh(version), VERSION);
    text_len = le32toh(text_len);
    if (text_len > SAVE_DATA_OFFSET - FIXED || text_len > len - FIXED ||
        strncmp(bytes + 16, sha256_text(bytes + FIXED, text_len, sum), SHA256_TEXT_SIZE) != 0)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The suspended domain's header is damaged.");
    struct json_error error;
    json_t *json AUTO_JSON = json_parse(bytes + FIXED, text_len, &error);
    struct save_header h = {.state_bytes = 0};
    if (!json || !take_text(json, "driver", h.driver, sizeof(h.driver)) ||
        !take_text(json, "driver_version", h.driver_version, sizeof(h.driver_version)) ||
        !take_text(json, "platform", h.platform, sizeof(h.platform)) ||
        !json_get_int(json, "state_bytes", &h.state_bytes) || h.state_bytes < SAVE_DATA_OFFSET ||
        wire_decode(&domain_config_desc, json_object_get(json, "config"), &h.config, complaint) < 0)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The suspended domain's header says too little.");
    struct hv_err why;
    if (domain_config_check(&h.config, &why) < 0) {
        domain_config_done(&h.config);
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The suspended domain's configuration is not usable. %s",
                       why.text);
    }
    h.layout = json_incref(json_object_get(json, "layout"));
    *header = h;
    return 0;
}

int save_header_read(int fd, struct save_header *header, struct hv_err *err)
{
    char *data AUTO_FREE = xmalloc(SAVE_DATA_OFFSET);
    size_t len = 0;
    ssize_t n = 0;
    while (len < SAVE_DATA_OFFSET &&
           ((n = pread(fd, data + len, SAVE_DATA_OFFSET - len, (off_t)len)) > 0 || (n < 0 && errno == EINTR)))
        len += n > 0 ? (size_t)n : 0;
    if (n < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's state cannot be read: %s", strerror(errno));
    return save_header_parse(data, len, header, err);
}

/* ---- resuming with other disks and nics ---- */

static int differs(struct hv_err *err, const char *what)
{
    return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain was suspended with other devices: %s.", what);
}

static const struct domain_disk *find_disk(const struct domain_config *config, const char *device)
{
    for (size_t i = 0; i < config->disks_count; i++)
        if (streq(config->disks[i].device, device))
            return &config->disks[i];
    return NULL;
}

static int merge_disk(struct domain_disk *disk, const struct domain_config *asked, struct hv_err *err)
{
    char what[96];
    const struct domain_disk *now = find_disk(asked, disk->device);
    snprintf(what, sizeof(what), "disk %s %s", disk->device,
             now ? "is attached in another way" : "is missing");
    if (!now || now->index != disk->index || now->bus != disk->bus || now->cdrom != disk->cdrom ||
        now->read_only != disk->read_only)
        return differs(err, what);
    disk->source = now->source;
    str_assign(&disk->sr, now->sr ? now->sr : "");
    str_assign(&disk->disk, now->disk ? now->disk : "");
    str_assign(&disk->iso, now->iso ? now->iso : "");
    return 0;
}

static int merge_nic(struct domain_nic *nic, const struct domain_config *asked, struct hv_err *err)
{
    char what[64];
    for (size_t i = 0; i < asked->nics_count; i++) {
        const struct domain_nic *now = &asked->nics[i];
        if (now->index != nic->index)
            continue;
        if (!streq(now->mac, nic->mac))
            break;
        /* A user-mode network is part of what was saved. */
        if (nic->kind != now->kind)
            return differs(err, "a nic led to another kind of network");
        nic->restricted = now->restricted;
        str_assign(&nic->bridge, now->bridge ? now->bridge : "");
        return 0;
    }
    snprintf(what, sizeof(what), "nic %d with the address %s is missing", (int)nic->index, nic->mac);
    return differs(err, what);
}

static int64_t vcpus_max(const struct domain_config *config)
{
    return config->vcpus_max > 0 ? config->vcpus_max : config->vcpus;
}

static int check_machine(const struct domain_config *saved, const struct domain_config *asked,
                         struct hv_err *err)
{
    if (saved->memory_bytes != asked->memory_bytes)
        return differs(err, "it had another amount of memory");
    if (vcpus_max(saved) != vcpus_max(asked))
        return differs(err, "it had another number of processors");
    if (saved->firmware != asked->firmware)
        return differs(err, "it had another firmware");
    if (saved->tpm != asked->tpm)
        return differs(err, saved->tpm ? "it had a TPM" : "it had no TPM");
    if (saved->vnc != asked->vnc || saved->serial != asked->serial ||
        saved->guest_agent != asked->guest_agent)
        return differs(err, "it had other consoles");
    if (saved->disks_count != asked->disks_count)
        return differs(err, "it had another number of disks");
    if (saved->nics_count != asked->nics_count)
        return differs(err, "it had another number of nics");
    return 0;
}

int save_merge(const struct domain_config *saved, const struct domain_config *asked, bool start_paused,
               struct domain_config *out, struct hv_err *err)
{
    struct domain_config merged AUTO_DOMAIN_CONFIG;
    domain_config_copy(&merged, saved);
    if (check_machine(saved, asked, err) < 0)
        return -1;
    for (size_t i = 0; i < merged.disks_count; i++)
        if (merge_disk(&merged.disks[i], asked, err) < 0)
            return -1;
    for (size_t i = 0; i < merged.nics_count; i++)
        if (merge_nic(&merged.nics[i], asked, err) < 0)
            return -1;
    str_assign(&merged.uuid, asked->uuid);
    str_assign(&merged.name, asked->name);
    /* A copy or a return to an earlier moment is something that the guest has to hear of. A guest that had no
     * such device cannot get one now. */
    if (merged.generation && *merged.generation && asked->generation && *asked->generation)
        str_assign(&merged.generation, asked->generation);
    merged.on_shutdown = asked->on_shutdown;
    merged.on_reboot = asked->on_reboot;
    merged.on_crash = asked->on_crash;
    merged.start_paused = start_paused;
    str_map_assign(&merged.data, str_map_ref(asked->data));
    *out = merged;
    domain_config_init(&merged);
    return 0;
}
