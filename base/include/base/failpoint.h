/* Failpoints: places where a test wants this process to end as if it had been killed there, or to stand still
 * while the test kills another. They do nothing unless the process was started with one of these in its
 * environment:
 *
 *   CORRAL_FAILPOINT=PLACE   this place kills it; "*:N" is the N-th place that it comes to, whatever its
 * name. CORRAL_FAILPOINTS=DIR    each place that is reached is appended to DIR/reached, one a line; a file
 * DIR/armed that says "kill PLACE" or "stop PLACE" does that once, and is removed before; "hold PLACE"
 * renames it to DIR/held, and that thread alone waits until that is gone.
 *
 * What kills goes to stderr first. Places are listed in the section "corral_failpoints" of the program, as
 * text; "NAME:*" where the rest is known at run time. For tests only. Any thread. */
#pragma once

#define FAILPOINT_LISTED(place)                                                                              \
    static const char failpoint_listed[] __attribute__((section("corral_failpoints"), used)) = place

/* `place` is a literal: "suspend:held". */
#define failpoint(place)                                                                                     \
    do {                                                                                                     \
        FAILPOINT_LISTED(place);                                                                             \
        failpoint_reach(failpoint_listed, "");                                                               \
    } while (0)

/* The place NAME:DETAIL; `name` is a literal, `detail` says what is under way there ("VM.start"). */
#define failpoint_of(name, detail)                                                                           \
    do {                                                                                                     \
        FAILPOINT_LISTED(name ":*");                                                                         \
        failpoint_reach(name ":", detail);                                                                   \
    } while (0)

/* What both do. The place is the one text behind the other. */
void failpoint_reach(const char *name, const char *detail);
