/* The host's folder of kernels and ramdisks, which domains name without a path. Links that lead out of it are
 * not followed, and what is no regular file is none of them. */
#pragma once
#include <hv/domain.h>
#include <hv/err.h>

enum image_use { IMAGE_KERNEL, IMAGE_RAMDISK };

/* `folder`: opened with O_PATH; -1: there is none. A descriptor for reading; -1: NO_KERNEL or NO_RAMDISK. */
int images_open(int folder, enum image_use use, const char *name, struct hv_err *err);
/* Whether what a configuration with firmware = kernel names is there. Others name nothing: 0. */
int images_check(int folder, const struct domain_config *config, struct hv_err *err);
