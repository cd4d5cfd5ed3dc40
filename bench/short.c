/* Preloaded by kills.py: reads and writes of a few bytes where many were asked for, as the system may do at any time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>

static atomic_ulong calls;

/* Every other call of more than one byte is cut. KILLS_SEED chooses which and to how many. */
static size_t cut(size_t count)
{
    static unsigned long seed;
    if (!seed) {
        const char *given = getenv("KILLS_SEED");
        seed = given ? strtoul(given, 0, 10) | 1 : 1;
    }
    unsigned long draw = (seed + atomic_fetch_add(&calls, 1)) * 0x9E3779B97F4A7C15ul;
    return count > 1 && draw >> 63 ? 1 + (draw >> 8) % (count - 1) : count;
}

#define SHORT(result, name, parameters, arguments)                        \
    result name parameters                                                \
    {                                                                     \
        static result(*next) parameters;                                  \
        if (!next)                                                        \
            *(void **)&next = dlsym(RTLD_NEXT, #name);                    \
        count = cut(count);                                               \
        return next arguments;                                            \
    }

SHORT(ssize_t, write, (int file, const void *bytes, size_t count), (file, bytes, count))
SHORT(ssize_t, read, (int file, void *bytes, size_t count), (file, bytes, count))
SHORT(ssize_t, pread64, (int file, void *bytes, size_t count, off64_t at), (file, bytes, count, at))
SHORT(ssize_t, pwrite64, (int file, const void *bytes, size_t count, off64_t at), (file, bytes, count, at))
