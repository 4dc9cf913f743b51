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
    FIELD(size),        FIELD(init),          FIELD(block_size), FIELD(block_count),
    FIELD(frame_size),  FIELD(snap_length),   FIELD(block_timeout), FIELD(busy_poll),
    FIELD(flags),       FIELD(memory_limit),  FIELD(filter),
    FIELD(cpu),         FIELD(clock),
};

int main(void) {
    struct netring_capture_config macro = NETRING_CAPTURE_CONFIG_INIT;
    struct netring_capture_config function;
    memset(&function, 0xa5, sizeof function);
    printf("1..8\n");
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

    struct netring_reader_config reader_macro = NETRING_READER_CONFIG_INIT;
    struct netring_reader_config reader;
    memset(&reader, 0xa5, sizeof reader);
    rc |= netring_reader_config_init(&reader, sizeof reader);
    int alike = rc == 0 && memcmp(&reader_macro, &reader, sizeof reader) == 0;
    printf("%sok 4 - the reader's macro is what its function writes\n", alike ? "" : "not ");
    reader.packet_limit ^= 1;
    seen &= memcmp(&reader_macro, &reader, sizeof reader) != 0;
    printf("%sok 5 - self-test: a difference is seen\n", seen ? "" : "not ");

    struct netring_writer_config writer_macro = NETRING_WRITER_CONFIG_INIT;
    struct netring_writer_config writer;
    memset(&writer, 0xa5, sizeof writer);
    rc |= netring_writer_config_init(&writer, sizeof writer);
    alike &= rc == 0 && memcmp(&writer_macro, &writer, sizeof writer) == 0;
    printf("%sok 6 - the writer's macro is what its function writes\n", alike ? "" : "not ");

    struct netring_filter_config filter_macro = NETRING_FILTER_CONFIG_INIT;
    struct netring_filter_config filter;
    memset(&filter, 0xa5, sizeof filter);
    rc |= netring_filter_config_init(&filter, sizeof filter);
    alike &= rc == 0 && memcmp(&filter_macro, &filter, sizeof filter) == 0;
    printf("%sok 7 - the filter's macro is what its function writes\n", alike ? "" : "not ");

    struct netring_group_config group_macro = NETRING_GROUP_CONFIG_INIT;
    struct netring_group_config group;
    memset(&group, 0xa5, sizeof group);
    rc |= netring_group_config_init(&group, sizeof group);
    alike &= rc == 0 && memcmp(&group_macro, &group, sizeof group) == 0;
    printf("%sok 8 - the group's macro is what its function writes\n", alike ? "" : "not ");
    return rc == 0 && equal && alike && seen ? 0 : 1;
}
