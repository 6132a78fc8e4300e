/* Runs a fuzz target on kept inputs, without the fuzzer: each file of the folders that are named, and none
 * twice. */
#include <base/file.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX (64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int run_file(const char *folder, const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", folder, name);
    size_t len;
    AUTO_FREE char *data = file_read(path, INPUT_MAX, &len);
    if (!data) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    /* A copy of just this size, so that a read beyond it is noticed. */
    AUTO_FREE uint8_t *exact = xmalloc(len ? len : 1);
    memcpy(exact, data, len);
    fprintf(stderr, "%s, %zu bytes\n", name, len); /* the last line tells which one it was */
    LLVMFuzzerTestOneInput(exact, len);
    return 0;
}

int main(int argc, char **argv)
{
    static const uint8_t nothing;
    int count = 0;
    LLVMFuzzerTestOneInput(&nothing, 0);
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(dir));)
            if (entry->d_name[0] != '.') {
                if (run_file(argv[i], entry->d_name) < 0)
                    return 1;
                count++;
            }
        closedir(dir);
    }
    printf("%d inputs\n", count);
    return count ? 0 : 1; /* a target without inputs is a mistake */
}
