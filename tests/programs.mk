# The programs of the C suite: every tests/c/test_*.c, linked with the other files there, three ways.
# Programs that mention NETRING_TEST_HOOKS get the library with the test hooks.
# usage: make -f tests/programs.mk [build/check/c/so/test_open ...]

CC ?= cc
OUT := build/check/c
SOURCES := $(wildcard tests/c/*.c)
TESTS := $(filter tests/c/test_%.c,$(SOURCES))
SHARED := $(filter-out $(TESTS),$(SOURCES))
NAMES := $(patsubst tests/c/%.c,%,$(TESTS))
NATIVE_LIBS := -lutil -lrt -lpthread -lm -ldl -lc

FLAGS := -std=gnu11 -Wall -Wextra -Werror -g -pthread -Iinclude
FLAGS_so := -O2
FLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all

# $(call lib,variant,source): what to link with.
hooked = $(shell grep -l NETRING_TEST_HOOKS $(1) 2>/dev/null)
libdir = $(abspath $(if $(call hooked,$(1)),build/hooks,build/lib))
# -ldl: glibc before 2.34 has dlopen there.
lib_so = -L$(call libdir,$(1)) -lnetring -ldl -Wl,-rpath,$(call libdir,$(1))
lib_a = $(call libdir,$(1))/libnetring.a $(NATIVE_LIBS)
lib_asan = $(lib_a)

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all so
all: $(foreach v,so a asan,$(addprefix $(OUT)/$(v)/,$(NAMES)))
so: $(addprefix $(OUT)/so/,$(NAMES))

# Objects, for users' two ways of linking and for the sanitizers.
define objects
$(OUT)/$(1)/%.o: tests/c/%.c
	@mkdir -p $$(@D)
	$(CC) $(FLAGS) $(FLAGS_$(1)) $$(if $$(call hooked,$$<),-DNETRING_TEST_HOOKS) -MMD -MP -c -o $$@ $$<
endef
$(foreach o,so asan,$(eval $(call objects,$(o))))

# $(call program,variant,whose objects)
define program
$(OUT)/$(1)/test_%: $(OUT)/$(2)/test_%.o $(patsubst tests/c/%.c,$(OUT)/$(2)/%.o,$(SHARED)) \
		build/lib/libnetring.a build/hooks/libnetring.a
	@mkdir -p $$(@D)
	$(CC) $(FLAGS_$(2)) -pthread -o $$@ $$(filter %.o,$$^) $$(call lib_$(1),tests/c/test_$$*.c)
endef
$(eval $(call program,so,so))
$(eval $(call program,a,so))
$(eval $(call program,asan,asan))

-include $(wildcard $(OUT)/*/*.d)
