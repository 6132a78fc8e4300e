/* corral-guest: the guest's side of the data that it shares with its pool (docs/guest-data.md). Talks over
 * the virtio port org.corral.data.0, one JSON object a line. One file, no library but C's, linked statically,
 * so that it runs in any Linux guest. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PORT "org.corral.data.0"
#define ANSWER_MAX (1 << 20)
#define ANSWER_MS 5000
#define BUSY_MS 10000
#define WATCH_MS 1000
#define PREFIX "vm-data/"

enum { EXIT_OK, EXIT_NOT_FOUND, EXIT_USAGE, EXIT_FAILED };

static const char usage_text[] =
    "Usage: corral-guest [--port FILE] COMMAND\n"
    "\n"
    "Reads and writes the data that this guest shares with its pool (VM.xenstore_data, keys vm-data/...).\n"
    "\n"
    "  read KEY           print a value\n"
    "  write KEY VALUE    set a value; VALUE '-' reads it from the standard input\n"
    "  rm KEY             remove a key and all below it\n"
    "  ls [KEY]           print the keys below KEY (all), one a line\n"
    "  dump [KEY]         the same with values: KEY = \"VALUE\", escaped as in JSON\n"
    "  watch [KEY]        print each change below KEY (all) until stopped: KEY = \"VALUE\", or KEY gone\n"
    "\n"
    "  --port FILE        the port, or a unix socket in its place\n"
    "                     (the virtio port " PORT ")\n"
    "\n"
    "A KEY without the leading vm-data/ gets it. Exit code: 0, 1 there is no such key, 2 wrong use,\n"
    "3 the pool did not answer or refused.\n";

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "corral-guest: %s: %s\n", what, why);
    return EXIT_FAILED;
}

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- text ---- */

struct text {
    char *data;
    size_t len, cap;
};

static void text_add(struct text *t, const char *data, size_t len)
{
    if (t->cap - t->len <= len) {
        t->cap = (t->len + len + 1) * 2;
        t->data = realloc(t->data, t->cap);
        if (!t->data)
            exit(fail("memory", strerror(ENOMEM)));
    }
    memcpy(t->data + t->len, data, len);
    t->len += len;
    t->data[t->len] = '\0';
}

static void text_add_str(struct text *t, const char *s)
{
    text_add(t, s, strlen(s));
}

static void text_add_json(struct text *t, const char *s)
{
    char escape[8];
    text_add_str(t, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c < 0x20)
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        else
            snprintf(escape, sizeof(escape), "%c", c);
        text_add_str(t, escape);
    }
    text_add_str(t, "\"");
}

/* ---- the answers: objects of strings, numbers and objects of strings ---- */

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

static void add_utf8(struct text *t, unsigned code)
{
    char bytes[4];
    size_t n;
    if (code < 0x80) {
        bytes[0] = (char)code;
        n = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3f));
        n = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[2] = (char)(0x80 | (code & 0x3f));
        n = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
        bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
        bytes[3] = (char)(0x80 | (code & 0x3f));
        n = 4;
    }
    text_add(t, bytes, n);
}

static bool read_hex(const char **p, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, (*p)++) {
        const char *digits = "0123456789abcdef";
        const char *at = **p ? strchr(digits, **p | 0x20) : NULL;
        if (!at)
            return false;
        *code = *code * 16 + (unsigned)(at - digits);
    }
    return true;
}

/* Behind the string that begins at `p`, NULL when it is none; its content into `out`. */
static const char *read_string(const char *p, struct text *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned code, low;
    if (*p++ != '"')
        return NULL;
    out->len = 0;
    text_add(out, "", 0);
    for (; *p && *p != '"';) {
        const char *at;
        if (*p != '\\') {
            text_add(out, p++, 1);
        } else if (p[1] == 'u') {
            p += 2;
            if (!read_hex(&p, &code))
                return NULL;
            if (code >= 0xd800 && code < 0xdc00 && p[0] == '\\' && p[1] == 'u') {
                p += 2;
                if (!read_hex(&p, &low))
                    return NULL;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            add_utf8(out, code);
        } else if (p[1] && (at = strchr(from, p[1]))) {
            text_add(out, to + (at - from), 1);
            p += 2;
        } else {
            return NULL;
        }
    }
    return *p == '"' ? p + 1 : NULL;
}

static const char *skip_value(const char *p, struct text *scratch)
{
    int depth = 0;
    do {
        p = skip_blanks(p);
        if (*p == '"') {
            if (!(p = read_string(p, scratch)))
                return NULL;
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (*p == ',' || *p == ':') {
            p++;
        } else {
            size_t n = strcspn(p, " \t\r\n,:{}[]\"");
            if (n == 0)
                return NULL;
            p += n;
        }
    } while (depth > 0);
    return p;
}

/* Calls `each` with each key of the object and where its value begins. False: it is none. */
static bool each_member(const char *p, bool (*each)(void *arg, const char *key, const char *value), void *arg)
{
    struct text key = {0}, scratch = {0};
    bool good = false;
    p = skip_blanks(p);
    if (*p != '{')
        return false;
    p = skip_blanks(p + 1);
    while (p && *p != '}') {
        p = read_string(p, &key);
        p = p ? skip_blanks(p) : NULL;
        if (!p || *p != ':')
            break;
        p = skip_blanks(p + 1);
        if (!each(arg, key.data, p) || !(p = skip_value(p, &scratch)))
            break;
        p = skip_blanks(p);
        if (*p == ',')
            p = skip_blanks(p + 1);
        else if (*p != '}')
            break;
    }
    good = p && *p == '}';
    free(key.data);
    free(scratch.data);
    return good;
}

struct member {
    const char *name;
    const char *value;
};

static bool find_one(void *arg, const char *key, const char *value)
{
    struct member *m = arg;
    if (!m->value && strcmp(key, m->name) == 0)
        m->value = value;
    return true;
}

/* Where the value of that member begins; NULL: there is none. */
static const char *member_of(const char *object, const char *name)
{
    struct member m = {.name = name};
    return each_member(object, find_one, &m) ? m.value : NULL;
}

/* ---- the port ---- */

static int open_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Without udev's link: by the name that the kernel knows. */
static bool find_port(char *path, size_t size)
{
    static const char folder[] = "/sys/class/virtio-ports";
    bool found = false;
    snprintf(path, size, "/dev/virtio-ports/%s", PORT);
    if (access(path, F_OK) == 0)
        return true;
    DIR *list = opendir(folder);
    for (struct dirent *e; !found && list && (e = readdir(list));) {
        char file[512], name[64] = "";
        snprintf(file, sizeof(file), "%s/%s/name", folder, e->d_name);
        FILE *in = e->d_name[0] == '.' ? NULL : fopen(file, "re");
        found = in && fgets(name, sizeof(name), in) && strcmp(name, PORT "\n") == 0;
        if (in)
            fclose(in);
        if (found)
            snprintf(path, size, "/dev/%s", e->d_name);
    }
    if (list)
        closedir(list);
    return found;
}

/* One program at a time may have the port open: waits for its turn. */
static int open_port(const char *given)
{
    char path[512];
    long long end = now_ms() + BUSY_MS;
    if (!given && !find_port(path, sizeof(path))) {
        errno = ENODEV;
        return -1;
    }
    for (;;) {
        int fd = open(given ? given : path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 && errno == ENXIO && given)
            fd = open_socket(given);
        if (fd >= 0 || errno != EBUSY || now_ms() >= end)
            return fd;
        poll(NULL, 0, 20);
    }
}

static bool send_all(int fd, const char *data, size_t len, long long end)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        long long left = end - now_ms();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return false;
        }
        poll(&p, 1, (int)left);
    }
    return true;
}

static bool is_answer_to(const char *line, const char *id)
{
    const char *value = member_of(line, "id");
    return value && strncmp(value, id, strlen(id)) == 0 && strchr(",} \t", value[strlen(id)]);
}

/* Reads lines until the one with this id; what else comes was for somebody before us. */
static bool receive(int fd, const char *id, long long end, struct text *answer)
{
    struct text in = {0};
    bool found = false;
    errno = ETIMEDOUT;
    while (!found && now_ms() < end && in.len < ANSWER_MAX) {
        char data[4096];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long long left = end - now_ms();
        poll(&p, 1, left > 0 ? (int)left : 0);
        ssize_t n = read(fd, data, sizeof(data));
        if (n == 0 && p.revents & POLLHUP)
            poll(NULL, 0, 50); /* the host is away for a moment */
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            break;
        if (n > 0)
            text_add(&in, data, (size_t)n);
        for (char *stop; !found && in.len && (stop = memchr(in.data, '\n', in.len));) {
            *stop = '\0';
            found = is_answer_to(in.data, id);
            if (found) {
                answer->len = 0;
                text_add_str(answer, in.data);
            }
            in.len -= (size_t)(stop + 1 - in.data);
            memmove(in.data, stop + 1, in.len + 1);
        }
        errno = ETIMEDOUT;
    }
    free(in.data);
    return found;
}

/* One request (`rest`: its members behind "id", begun with a comma) and its answer. */
static bool ask(const char *port, const char *rest, struct text *answer)
{
    unsigned number = 0;
    char id[16];
    struct text line = {0};
    /* A number of its own: answers to a program that gave up may still be in the port. */
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        number = (unsigned)getpid();
    snprintf(id, sizeof(id), "%u", number & 0x7fffffff);
    text_add_str(&line, "\n{\"id\":"); /* the empty line ends what somebody before us left unfinished */
    text_add_str(&line, id);
    text_add_str(&line, rest);
    text_add_str(&line, "}\n");
    bool good = false;
    for (int attempt = 0; !good && attempt < 2; attempt++) {
        int fd = open_port(port);
        if (fd < 0)
            break;
        long long end = now_ms() + ANSWER_MS;
        good = send_all(fd, line.data, line.len, end) && receive(fd, id, end, answer);
        int error = errno;
        close(fd);
        errno = error;
    }
    if (!good)
        fail("the pool does not answer", strerror(errno));
    free(line.data);
    return good;
}

/* ---- commands ---- */

static void print_string(const char *value)
{
    struct text text = {0};
    if (read_string(value, &text))
        fwrite(text.data, 1, text.len, stdout);
    free(text.data);
}

/* EXIT_OK when the answer is no error. */
static int check(const char *answer)
{
    const char *error = member_of(answer, "error"), *why = member_of(answer, "text");
    struct text text = {0};
    if (!error)
        return EXIT_OK;
    read_string(why && *why == '"' ? why : error, &text);
    fprintf(stderr, "corral-guest: %s\n", text.data ? text.data : "refused");
    free(text.data);
    return strncmp(error, "\"not_found\"", 11) == 0 ? EXIT_NOT_FOUND : EXIT_FAILED;
}

static void add_member(struct text *rest, const char *name, const char *value)
{
    text_add_str(rest, ",\"");
    text_add_str(rest, name);
    text_add_str(rest, "\":");
    text_add_json(rest, value);
}

static int simple(const char *port, const char *op, const char *key, const char *value)
{
    struct text rest = {0}, answer = {0};
    add_member(&rest, "op", op);
    add_member(&rest, "key", key);
    if (value)
        add_member(&rest, "value", value);
    int code = ask(port, rest.data, &answer) ? check(answer.data) : EXIT_FAILED;
    const char *text = code == EXIT_OK ? member_of(answer.data, "value") : NULL;
    if (text) {
        print_string(text);
        putchar('\n');
    }
    free(rest.data);
    free(answer.data);
    return code;
}

static int list(const char *port, const char *prefix, struct text *answer)
{
    struct text rest = {0};
    add_member(&rest, "op", "list");
    add_member(&rest, "prefix", prefix);
    int code = ask(port, rest.data, answer) ? check(answer->data) : EXIT_FAILED;
    free(rest.data);
    if (code == EXIT_OK && !member_of(answer->data, "data"))
        return fail("answer", "it has no data");
    return code;
}

static bool print_key(void *arg, const char *key, const char *value)
{
    bool with_value = *(bool *)arg;
    fputs(key, stdout);
    if (with_value) {
        struct text text = {0}, quoted = {0};
        if (read_string(value, &text)) {
            text_add_json(&quoted, text.data);
            printf(" = %s", quoted.data);
        }
        free(text.data);
        free(quoted.data);
    }
    putchar('\n');
    return true;
}

static int print_list(const char *port, const char *prefix, bool with_values)
{
    struct text answer = {0};
    int code = list(port, prefix, &answer);
    if (code == EXIT_OK)
        each_member(member_of(answer.data, "data"), print_key, &with_values);
    free(answer.data);
    return code;
}

struct compare {
    const char *other; /* the object to compare with */
    bool gone;         /* print what `other` does not have; else what it has otherwise, or not */
};

static bool compare_one(void *arg, const char *key, const char *value)
{
    const struct compare *c = arg;
    struct text now = {0}, old = {0};
    bool with_value = true;
    const char *there = member_of(c->other, key);
    if (c->gone && !there)
        printf("%s gone\n", key);
    else if (!c->gone && (!there || (read_string(value, &now) && read_string(there, &old) &&
                                     strcmp(now.data, old.data) != 0)))
        print_key(&with_value, key, value);
    free(now.data);
    free(old.data);
    return true;
}

static int watch(const char *port, const char *prefix)
{
    struct text seen = {0}, answer = {0};
    long long version = -1;
    int code = EXIT_OK;
    for (bool first = true; code == EXIT_OK; first = false) {
        code = ask(port, ",\"op\":\"version\"", &answer) ? check(answer.data) : EXIT_FAILED;
        const char *value = code == EXIT_OK ? member_of(answer.data, "version") : NULL;
        if (value && strtoll(value, NULL, 10) != version && (code = list(port, prefix, &answer)) == EXIT_OK) {
            version = strtoll(member_of(answer.data, "version"), NULL, 10);
            const char *now = member_of(answer.data, "data");
            const char *old = first ? now : member_of(seen.data, "data");
            struct compare gone = {.other = now, .gone = true}, other = {.other = old};
            each_member(old, compare_one, &gone);
            each_member(now, compare_one, &other);
            seen.len = 0;
            text_add_str(&seen, answer.data);
            if (fflush(stdout) != 0)
                code = fail("standard output", strerror(errno));
        }
        poll(NULL, 0, WATCH_MS);
    }
    free(seen.data);
    free(answer.data);
    return code;
}

static int write_value(const char *port, const char *key, const char *value)
{
    struct text text = {0};
    char data[4096];
    size_t n;
    if (strcmp(value, "-") != 0)
        return simple(port, "write", key, value);
    text_add(&text, "", 0);
    while (text.len < ANSWER_MAX && (n = fread(data, 1, sizeof(data), stdin)) > 0)
        text_add(&text, data, n);
    int code = strlen(text.data) != text.len ? fail("value", "it holds a NUL")
                                             : simple(port, "write", key, text.data);
    free(text.data);
    return code;
}

static int usage(void)
{
    fputs(usage_text, stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    const char *port = NULL;
    char key[512] = PREFIX;
    int at = 1, code;
    if (argc > 2 && strcmp(argv[1], "--port") == 0) {
        port = argv[2];
        at = 3;
    }
    if (at < argc && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)) {
        fputs(usage_text, stdout);
        return EXIT_OK;
    }
    if (at >= argc)
        return usage();
    const char *command = argv[at++];
    int left = argc - at;
    if (left > 0) {
        bool whole = strncmp(argv[at], PREFIX, strlen(PREFIX)) == 0 || strcmp(argv[at], "vm-data") == 0;
        if (snprintf(key, sizeof(key), "%s%s", whole ? "" : PREFIX, argv[at]) >= (int)sizeof(key))
            return fail("key", "it is too long");
    }
    if (strcmp(command, "read") == 0 && left == 1)
        code = simple(port, "read", key, NULL);
    else if (strcmp(command, "write") == 0 && left == 2)
        code = write_value(port, key, argv[at + 1]);
    else if (strcmp(command, "rm") == 0 && left == 1)
        code = simple(port, "remove", key, NULL);
    else if (strcmp(command, "ls") == 0 && left <= 1)
        code = print_list(port, key, false);
    else if (strcmp(command, "dump") == 0 && left <= 1)
        code = print_list(port, key, true);
    else if (strcmp(command, "watch") == 0 && left <= 1)
        code = watch(port, key);
    else
        return usage();
    if (fflush(stdout) != 0 && code == EXIT_OK)
        code = fail("standard output", strerror(errno));
    return code;
}
