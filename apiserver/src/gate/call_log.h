/* Which messages succeeded: a file with the name of each, once, that tells what a run of tests has covered
 * (`poold --call-log FILE`). Any thread. */
#pragma once
#include <model/method.h>

struct call_log;
/* Appends to the file, which is made when it is missing. NULL with errno. */
struct call_log *call_log_open(const char *path);
void call_log_close(struct call_log *log);
/* A first success is written, any other costs one read. */
void call_log_note(struct call_log *log, const struct method_desc *method);
