/* Names of VBD devices: "0", "xvda", "sda" and "hda" are one device. Pure; any thread. */
#pragma once
#include <stdbool.h>

/* Highest device number of a VM. */
#define VBD_DEVICE_MAX 254
#define VBD_DEVICE_NAME_SIZE 8

/* The number of a device as clients write it: decimal, or xvd, sd or hd with letters. Partitions ("xvda1"),
 * leading zeros and numbers beyond VBD_DEVICE_MAX are refused. */
bool vbd_device_parse(const char *text, int *number);
/* "xvda", "xvdb", ... "xvdaa"; also the name that the agent knows the drive by. Returns `out`. */
char *vbd_device_name(int number, char out[static VBD_DEVICE_NAME_SIZE]);
