/* This program, started anew in place: same process id, same arguments, everything else from the beginning.
 */
#pragma once

/* Notes how the process was started: first thing in main, before its file may be replaced. `argv` is kept. */
void self_note(char **argv);
/* Runs the program's file, as it is on disk now, in place of this process. The caller has ended its threads
 * or does not care. Returns only on failure: -1 with errno. */
int self_again(void);
