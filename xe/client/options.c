/* Reads the settings; see options.h. Each source is a list of words run through one table, the
 * weakest source first, so that a stronger one overwrites. */
#include "options.h"
#include <arpa/inet.h>
#include <base/buf.h>
#include <base/file.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define LOCAL_SOCKET "/run/corral/poold.sock" /* of corral-poold.service */

enum setting { SERVER, PORT, USER, PASSWORD, PASSWORD_FILE, CA, NOSSL, DEBUG, IGNORED, HELP, VERSION, NONE };

static const struct {
    const char *word;
    enum setting setting;
    bool takes_value;
} dashed[] = {
    {"-s", SERVER, true},
    {"-h", SERVER, true},
    {"-p", PORT, true},
    {"-u", USER, true},
    {"-pw", PASSWORD, true},
    {"-pwf", PASSWORD_FILE, true},
    {"--ca", CA, true},
    {"--nossl", NOSSL, false},
    {"--debug", DEBUG, false},
    {"--debug-on-fail", IGNORED, false},
    {"--traceparent", IGNORED, true},
    {"--help", HELP, false},
    {"-help", HELP, false},
    {"--version", VERSION, false},
    {"-version", VERSION, false},
};
static const struct {
    const char *name;
    enum setting setting;
} named[] = {
    {"server", SERVER},
    {"port", PORT},
    {"username", USER},
    {"password", PASSWORD},
    {"passwordfile", PASSWORD_FILE},
    {"nossl", NOSSL},
    {"debug", DEBUG},
    {"debugonfail", IGNORED},
    {"traceparent", IGNORED},
};
static const struct {
    const char *variable;
    enum setting setting;
} variables[] = {
    {"XE_SERVER", SERVER}, {"XE_PORT", PORT}, {"XE_USER", USER}, {"XE_PASSWORD_FILE", PASSWORD_FILE},
    {"XE_CA", CA},
};

static void assign(char **slot, const char *value)
{
    free(*slot);
    *slot = xstrdup(value);
}

static int parse_port(const char *text, int *port, char **problem)
{
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < 1 || n > 65535) {
        *problem = xasprintf("the port must be a number from 1 to 65535, not '%s'", text);
        return -1;
    }
    *port = (int)n;
    return 0;
}

static bool is_true(const char *text)
{
    return streq(text, "true") || streq(text, "yes") || streq(text, "1");
}

static int apply(struct xe_options *o, enum setting setting, const char *value, char **problem)
{
    switch (setting) {
    case SERVER:
        assign(&o->server, value);
        break;
    case PORT:
        return parse_port(value, &o->port, problem);
    case USER:
        assign(&o->user, value);
        break;
    case PASSWORD:
        assign(&o->password, value);
        break;
    case PASSWORD_FILE:
        /* Said later than a password, it counts. */
        if (o->password)
            secret_free_cleanup(&o->password);
        o->password = NULL;
        assign(&o->password_file, value);
        break;
    case CA:
        /* An empty name goes back to trust on first use. */
        free(o->ca_file);
        o->ca_file = *value ? xstrdup(value) : NULL;
        break;
    case NOSSL:
        o->plain_http = is_true(value);
        break;
    case DEBUG:
        o->debug = is_true(value);
        break;
    case HELP:
        o->help = true;
        break;
    case VERSION:
        o->version = true;
        break;
    case IGNORED:
    case NONE:
        break;
    }
    return 0;
}

static void add_word(struct xe_options *o, const char *word)
{
    o->words = xreallocarray(o->words, (size_t)o->word_count + 2, sizeof *o->words);
    o->words[o->word_count++] = word;
    o->words[o->word_count] = NULL;
}

/* "name=value" of a setting: which, and the value. */
static enum setting named_setting(const char *word, const char **value)
{
    const char *eq = strchr(word, '=');
    for (size_t i = 0; eq && i < ARRAY_LEN(named); i++) {
        if (strncmp(word, named[i].name, (size_t)(eq - word)) == 0 && !named[i].name[eq - word]) {
            *value = eq + 1;
            return named[i].setting;
        }
    }
    return NONE;
}

/* Runs one source's words through the tables; what is no setting goes to `rest`. */
static int take_words(struct xe_options *o, int argc, char *const *argv,
                      void (*rest)(struct xe_options *, const char *), char **problem)
{
    static const char *const others[] = {"--where", "--columns", "--sort"}; /* what follows is not ours */
    for (int i = 0; i < argc; i++) {
        const char *value = NULL;
        bool other = false;
        for (size_t k = 0; k < ARRAY_LEN(others); k++)
            other |= streq(argv[i], others[k]);
        if (other && i + 1 < argc) {
            rest(o, argv[i++]);
            rest(o, argv[i]);
            continue;
        }
        enum setting setting = named_setting(argv[i], &value);
        if (strncmp(argv[i], "--ca=", 5) == 0) {
            setting = CA;
            value = argv[i] + 5;
        }
        for (size_t d = 0; d < ARRAY_LEN(dashed) && setting == NONE; d++) {
            if (!streq(argv[i], dashed[d].word))
                continue;
            setting = dashed[d].setting;
            value = "true";
            if (dashed[d].takes_value && !(value = i + 1 < argc ? argv[++i] : NULL)) {
                *problem = xasprintf("%s needs a value", dashed[d].word);
                return -1;
            }
        }
        if (setting == NONE)
            rest(o, argv[i]);
        else if (apply(o, setting, value, problem) < 0)
            return -1;
    }
    return 0;
}

static char *own(struct xe_options *o, char *text)
{
    o->owned = xreallocarray(o->owned, o->owned_count + 1, sizeof *o->owned);
    return o->owned[o->owned_count++] = text;
}

/* Parameters that ~/.xe and XE_EXTRA_ARGS add stand behind those of the command line, which win. */
static void keep_for_later(struct xe_options *o, const char *word)
{
    own(o, xstrdup(word));
}

/* ~/.xe: key=value lines. A line that is none voids the file. */
static int take_file(struct xe_options *o, char **problem)
{
    const char *home = getenv("HOME");
    if (!home || !*home)
        return 0;
    AUTO_FREE char *path = xasprintf("%s/.xe", home);
    AUTO_FREE char *text = file_read(path, 65536, NULL);
    if (!text) {
        if (errno != ENOENT)
            fprintf(stderr, "xe: %s is not used: %s\n", path, strerror(errno));
        return 0;
    }
    for (int pass = 0; pass < 2; pass++) {
        AUTO_FREE char *copy = xstrdup(text);
        char *rest = copy, *line;
        while ((line = strsep(&rest, "\n"))) {
            line[strcspn(line, "\r")] = '\0';
            if (!*line || line[strspn(line, " \t")] == '\0')
                continue;
            if (pass == 0 && (!strchr(line, '=') || line[0] == '=')) {
                fprintf(stderr, "xe: %s is not used: a line is not key=value\n", path);
                return 0;
            }
            if (pass == 1 && take_words(o, 1, &line, keep_for_later, problem) < 0)
                return -1;
        }
    }
    struct stat st;
    if (o->password && stat(path, &st) == 0 && (st.st_mode & 077))
        fprintf(stderr, "xe: %s holds a password and others can read it; run: chmod 600 %s\n", path, path);
    return 0;
}

/* XE_EXTRA_ARGS: words between commas; a backslash keeps a comma. */
static int take_extra(struct xe_options *o, char **problem)
{
    const char *extra = getenv("XE_EXTRA_ARGS");
    if (!extra || !*extra)
        return 0;
    char **words = NULL;
    int count = 0;
    AUTO_BUF struct buf b = BUF_INIT;
    for (const char *s = extra;; s++) {
        if (*s == '\\' && s[1]) {
            buf_add_char(&b, *++s);
        } else if (*s && *s != ',') {
            buf_add_char(&b, *s);
        } else {
            words = xreallocarray(words, (size_t)count + 1, sizeof *words);
            words[count++] = b.len ? buf_take(&b) : xstrdup("");
            if (!*s)
                break;
        }
    }
    int rc = take_words(o, count, words, keep_for_later, problem);
    for (int i = 0; i < count; i++)
        free(words[i]);
    free(words);
    return rc;
}

static int take_environment(struct xe_options *o, char **problem)
{
    for (size_t i = 0; i < ARRAY_LEN(variables); i++) {
        const char *value = getenv(variables[i].variable);
        if (value && *value && apply(o, variables[i].setting, value, problem) < 0)
            return -1;
    }
    return take_extra(o, problem);
}

/* Hides a password that was given in the process arguments. */
static void hide_password(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        char *secret = streq(argv[i], "-pw") && i + 1 < argc   ? argv[i + 1]
                       : strncmp(argv[i], "password=", 9) == 0 ? argv[i] + 9
                                                               : NULL;
        if (secret)
            memset(secret, 'x', strlen(secret));
    }
}

/* The server of this machine, for who may use its socket, unless something speaks of another way to a server.
 */
static const char *default_server(const struct xe_options *o)
{
    bool said = o->port || o->plain_http || o->user || o->password || o->password_file || o->ca_file;
    return !said && access(LOCAL_SOCKET, R_OK | W_OK) == 0 ? LOCAL_SOCKET : "127.0.0.1";
}

int xe_options_read(struct xe_options *o, int argc, char **argv, char **problem)
{
    if (take_file(o, problem) < 0 || take_environment(o, problem) < 0)
        return -1;
    int rc = take_words(o, argc, argv, add_word, problem);
    hide_password(argc, argv);
    if (rc < 0)
        return -1;
    for (size_t i = 0; i < o->owned_count; i++)
        add_word(o, o->owned[i]);
    if (!o->server)
        o->server = xstrdup(default_server(o));
    o->local = o->server[0] == '/';
    if (!o->port)
        o->port = o->plain_http || o->local ? 80 : 443;
    if (o->local)
        return 0;
    if (o->plain_http && !xe_is_loopback(o->server)) {
        *problem = xasprintf(
            "--nossl would send the password readable to %s; it is for loopback addresses only", o->server);
        return -1;
    }
    return 0;
}

bool xe_is_loopback(const char *server)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (streq(server, "localhost"))
        return true;
    if (inet_pton(AF_INET, server, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, server, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* One line: the password; two: user and password. A user said elsewhere wins. */
static int read_password_file(struct xe_options *o, char **problem)
{
    char *text = file_read(o->password_file, 4096, NULL);
    if (!text) {
        *problem = xasprintf("cannot read the password file %s: %s", o->password_file, strerror(errno));
        return -1;
    }
    char *second = strchr(text, '\n');
    if (second)
        *second++ = '\0';
    text[strcspn(text, "\r")] = '\0';
    if (second)
        second[strcspn(second, "\r\n")] = '\0';
    bool two = second && *second;
    if (two && !o->user)
        o->user = xstrdup(text);
    o->password = xstrdup(two ? second : text);
    secret_free_cleanup(&text);
    if (*o->password)
        return 0;
    *problem = xasprintf("the password file %s is empty", o->password_file);
    return -1;
}

static int ask_password(struct xe_options *o, char **problem)
{
    struct termios old, quiet;
    if (o->silent || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &old) < 0) {
        *problem =
            xstrdup("no password: say -pwf FILE, set XE_PASSWORD_FILE, or put passwordfile= into ~/.xe");
        return -1;
    }
    fprintf(stderr, "Password of %s on %s: ", o->user, o->server);
    quiet = old;
    quiet.c_lflag &= (tcflag_t)~ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    char *line = NULL;
    size_t size = 0;
    ssize_t n = getline(&line, &size, stdin);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
    fputc('\n', stderr);
    if (n <= 0) {
        free(line);
        *problem = xstrdup("no password was given");
        return -1;
    }
    line[strcspn(line, "\r\n")] = '\0';
    o->password = line;
    return 0;
}

int xe_options_password(struct xe_options *o, char **problem)
{
    if (!o->password && o->password_file && read_password_file(o, problem) < 0)
        return -1;
    if (!o->user)
        o->user = xstrdup("root");
    if (!o->password && o->local)
        o->password = xstrdup("");
    if (!o->password && ask_password(o, problem) < 0)
        return -1;
    return 0;
}

void xe_options_done(struct xe_options *o)
{
    secret_free_cleanup(&o->password);
    free(o->server);
    free(o->user);
    free(o->password_file);
    free(o->ca_file);
    for (size_t i = 0; i < o->owned_count; i++)
        free(o->owned[i]);
    free(o->owned);
    free((void *)o->words);
    *o = (struct xe_options){0};
}
