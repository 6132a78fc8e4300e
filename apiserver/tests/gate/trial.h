/* A server without network and agents, in memory: for tests that send calls through the gate. */
#pragma once
#include <jansson.h>
#include <semaphore.h>
#include <server.h>

struct trial_server {
    struct server server;
    struct session *root; /* the superuser's */
};

void trial_start(struct trial_server *t);
/* The same over a store of the caller's making, which moves in. */
void trial_start_on(struct trial_server *t, struct store *store);
void trial_stop(struct trial_server *t);
/* A session of that role, no superuser. The caller closes it with session_close and session_unref. */
struct session *trial_session(struct trial_server *t, enum role role);

/* What a call answered. */
struct trial_answer {
    bool failed;
    char code[64];
    char params[4][256];
    size_t param_count;
    char *json; /* the result as JSON; NULL when it failed */
};
void trial_answer_done(struct trial_answer *answer);
#define AUTO_ANSWER __attribute__((cleanup(trial_answer_done)))
/* Sends a call and waits for its answer. `params` without the session (moved); NULL: none. */
void trial_call(struct trial_server *t, const struct session *session, const char *method, json_t *params,
                struct trial_answer *answer);
