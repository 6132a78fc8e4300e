/* YAML as JSON: what people write documents in. One document of mappings with text keys, sequences and
 * scalars; plain scalars are null, true, false and numbers as in JSON, all else is text. Anchors, aliases and
 * tags are refused, so a document is no larger than its text. */
#pragma once
#include <base/json.h>

#define YAML_BYTES_MAX ((size_t)1 << 20)
#define YAML_DEPTH_MAX 32

/* JSON is YAML too. NULL: *error is set, with line and column. The caller decrefs. */
json_t *yaml_parse(const char *text, size_t len, struct json_error *error);
/* Appends `value`, an object, as YAML in blocks that yaml_parse reads as the same. */
void yaml_write(struct buf *out, const json_t *value);
