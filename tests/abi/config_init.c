/* Each NETRING_..._CONFIG_INIT and its function say the same, byte for byte. C and C++. */
#include <netring.h>
#include <stdio.h>
#include <string.h>

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, offsetof(struct netring_capture_config, name),                                      \
            sizeof(((struct netring_capture_config *)0)->name)                                     \
    }
static const struct {
    const char *name;
    size_t offset, size;
} fields[] = {
    FIELD(size),       FIELD(init),         FIELD(block_size),    FIELD(block_count),
    FIELD(frame_size), FIELD(snap_length),  FIELD(block_timeout), FIELD(busy_poll),
    FIELD(flags),      FIELD(memory_limit), FIELD(filter),        FIELD(cpu),
    FIELD(clock),      FIELD(netns_fd),     FIELD(socket_fd),
};

/* Another structure, whose macro has to be what its function writes. */
#define ALIKE(number, object, initialiser)                                                         \
    do {                                                                                           \
        struct netring_##object##_config macro_ = initialiser, function_;                          \
        memset(&function_, 0xa5, sizeof function_);                                                \
        int same = netring_##object##_config_init(&function_, sizeof function_) == 0 &&            \
                   memcmp(&macro_, &function_, sizeof macro_) == 0;                                \
        printf("%sok %d - " #object ": the macro is what the function writes\n",                   \
               same ? "" : "not ", number);                                                        \
        alike &= same;                                                                             \
    } while (0)

int main(void)
{
    struct netring_capture_config macro = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture_config function;
    memset(&function, 0xa5, sizeof function);
    printf("1..11\n");
    int rc = netring_capture_config_init(&function, sizeof function);
    printf("%sok 1 - netring_capture_config_init: %d\n", rc == 0 ? "" : "not ", rc);

    int equal = memcmp(&macro, &function, sizeof macro) == 0;
    printf("%sok 2 - the macro is what the function writes\n", equal ? "" : "not ");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        unsigned long long a = 0, b = 0;
        memcpy(&a, (const char *)&macro + fields[i].offset, fields[i].size);
        memcpy(&b, (const char *)&function + fields[i].offset, fields[i].size);
        if (a != b)
            printf("# %s: macro %llu, function %llu\n", fields[i].name, a, b);
    }

    function.block_count ^= 1;
    int seen = memcmp(&macro, &function, sizeof macro) != 0;
    printf("%sok 3 - self-test: a difference is seen\n", seen ? "" : "not ");

    int alike = 1;
    ALIKE(4, reader, NETRING_READER_CONFIG_INIT);
    ALIKE(5, writer, NETRING_WRITER_CONFIG_INIT);
    ALIKE(6, filter, NETRING_FILTER_CONFIG_INIT);
    ALIKE(7, group, NETRING_GROUP_CONFIG_INIT);
    ALIKE(8, injector, NETRING_INJECTOR_CONFIG_INIT);
    ALIKE(9, bridge, NETRING_BRIDGE_CONFIG_INIT);
    ALIKE(10, umem, NETRING_UMEM_CONFIG_INIT);
    ALIKE(11, xdp, NETRING_XDP_CONFIG_INIT);
    return rc == 0 && equal && alike && seen ? 0 : 1;
}
