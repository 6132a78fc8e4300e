/* A keyed hash (SipHash-1-3), so that clients who choose names cannot make them collide. */
#pragma once
#include <base/ref.h>
#include <stddef.h>
#include <stdint.h>

uint64_t hash_bytes(struct ref key, uint64_t prefix, const void *data, size_t len);
