/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The CPU time of what happens on one CPU: the thread's, and that of the kernel's thread for what
 * interrupts leave over, so that the receiving half of a veth pair is in it. */
#ifndef CPU_H
#define CPU_H

#include "common.h"

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static int softirq_thread = -1; /* schedstat of ksoftirqd of our CPU */

/* Keeps this thread on that CPU; false: it cannot. */
static inline bool stay_on(int cpu)
{
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (sched_setaffinity(0, sizeof here, &here) != 0)
        return false;
    for (int pid = 2; pid < 1000 && softirq_thread < 0; pid++) {
        char path[64], name[32] = "", want[32];
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        snprintf(want, sizeof want, "ksoftirqd/%d\n", cpu);
        file = fopen(path, "re");
        if (file == NULL)
            continue;
        if (fgets(name, sizeof name, file) && strcmp(name, want) == 0) {
            snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
            softirq_thread = open(path, O_RDONLY | O_CLOEXEC);
        }
        fclose(file);
    }
    return true;
}

static inline int64_t cpu_ns(void)
{
    char text[128] = "";

    if (softirq_thread >= 0 && pread(softirq_thread, text, sizeof text - 1, 0) < 0)
        text[0] = 0;
    return clock_ns(CLOCK_THREAD_CPUTIME_ID) + atoll(text);
}

#endif
