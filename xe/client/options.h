/* Where the settings of xe come from: command line, environment, ~/.xe, in this order; what is
 * left over is the command with its parameters. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct xe_options {
    char *server, *user, *password, *password_file, *ca_file; /* NULL: not said */
    bool local; /* the server is the path of a unix socket: no port, no TLS, no password */
    int port;                                                 /* 0: by protocol */
    bool plain_http, debug, help, version;
    bool silent; /* set before reading: nobody is asked anything, and no certificate is trusted anew */
    /* The command and its parameters; pointers into the other members' storage. */
    const char **words;
    int word_count;
    char **owned;
    size_t owned_count;
};
/* argv without the program's name. 0, or -1 with a sentence in *problem (heap). The password's bytes in
 * argv are overwritten, so that other users do not read them in the process list. */
int xe_options_read(struct xe_options *o, int argc, char **argv, char **problem);
void xe_options_done(struct xe_options *o);
/* Finds user and password: -pw, the password file, or a question on the terminal. */
int xe_options_password(struct xe_options *o, char **problem);
/* True for localhost, 127.0.0.0/8 and ::1. */
bool xe_is_loopback(const char *server);
