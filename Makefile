# libnetring
#
#   make                build the library and the examples (nothing outside build/)
#   make run            capture packets now: IFACE=eth0, or lo with traffic of its own
#   make check          every test this machine can run
#   make install        DESTDIR= PREFIX=/usr/local LIBDIR=lib INCLUDEDIR=include
#   make help           the other targets

VERSION := $(shell sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml)
# The number of the ABI, in the soname. Its own constant: it changes when old
# programs can no longer run, whatever the version.
ABI := 0

CARGO ?= cargo
# make knows a default for CC ("cc") that an empty environment leaves in place.
PKG_CONFIG ?= pkg-config
STRIP ?= strip
INSTALL ?= install
CFLAGS ?= -O2 -g

PREFIX ?= /usr/local
LIBDIR ?= lib
INCLUDEDIR ?= include
MANDIR ?= share/man
DOCDIR ?= share/doc/libnetring

BUILD := build
SO := libnetring.so.$(VERSION)
SONAME := libnetring.so.$(ABI)
# What Rust's standard library needs of the system (rustc --print
# native-static-libs). libgcc_s is for the shared library alone: -static has none.
NATIVE_LIBS := -lutil -lrt -lpthread -lm -ldl -lc

EXAMPLES := $(patsubst c-examples/%.c,$(BUILD)/examples/%,$(wildcard c-examples/*.c))
HEADERS := $(wildcard include/netring*.h include/netring*.hpp)
EXAMPLE_CFLAGS := -std=gnu11 -Wall -Wextra -pthread

export CARGO CC PKG_CONFIG
# cargo has its own idea of jobs (CARGO_BUILD_JOBS); make's would only confuse it.
CARGO_RUN := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(CARGO)

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all lib examples hooks run check check-qemu bench fuzz fuzz-run header header-check fmt symbols abi-baseline \
	install uninstall dist clean help toolchain FORCE

all: lib examples

help:
	@echo 'make [all]          library and examples, in build/lib and build/examples'
	@echo 'make lib            build/lib/libnetring.so, libnetring.a'
	@echo 'make examples       build/examples/*, linked statically so that setcap works'
	@echo 'make run            IFACE=eth0 COUNT=20 ARGS=...: the capture example'
	@echo 'make check          all tests; SUITES="abi c-*" for some, tests/run.sh -l lists them'
	@echo 'make check-qemu     the C suite on other kernels; KERNELS="5.10 7" TESTS="wait xdp*"'
	@echo 'make bench          the benchmarks'
	@echo 'make soak           MINUTES=15: a capture left running, and all that may befall it'
	@echo 'make fuzz           TARGET=walker SECONDS=180: a fuzz target (fuzz/README.md)'
	@echo 'make fuzz-run       TARGET=walker INPUT=file: what it found, once more'
	@echo 'make header         write include/netring.h from the Rust sources'
	@echo 'make symbols        header, then netring.map and tests/abi/exports.txt from it'
	@echo 'make fmt            format the Rust and C sources'
	@echo 'make abi-baseline   write tests/abi/netring-0.1.abi (for a release)'
	@echo 'make install        DESTDIR PREFIX LIBDIR INCLUDEDIR STRIP: what `make` has built'
	@echo 'make uninstall      removes exactly what install put there'
	@echo 'make dist           build/dist/libnetring-$(VERSION).tar.gz from the last commit'
	@echo 'make clean          removes build/'

toolchain:
	@scripts/toolchain.sh

# ---- the library -----------------------------------------------------------
# cargo decides whether anything is to be compiled; what follows from its archive
# is made again only when that is newer.

lib: $(BUILD)/lib/$(SO) $(BUILD)/lib/libnetring.a

FORCE:

$(BUILD)/cargo/release/libnetring.a: FORCE | toolchain
	@CARGO_TARGET_DIR=$(BUILD)/cargo $(CARGO_RUN) rustc --quiet --release --locked --lib --crate-type staticlib

$(BUILD)/lib/libnetring.a: $(BUILD)/cargo/release/libnetring.a
	@mkdir -p $(@D)
	cp $< $@

# The archive is linked once more, with a real version script: rustc passes one
# of its own to what it links, so symbol versions cannot be had from cargo.
LINK_SO = $(CC) -shared -o $@ -Wl,-soname,$(SONAME) \
	-Wl,--version-script=$(filter %.map,$^) -Wl,--no-undefined-version \
	-Wl,--gc-sections -Wl,-z,defs -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack $(LDFLAGS) \
	-Wl,--whole-archive $(filter %.a,$^) -Wl,--no-whole-archive -lgcc_s $(NATIVE_LIBS)
LINK_NAMES = ln -sf $(SO) $(@D)/$(SONAME) && ln -sf $(SONAME) $(@D)/libnetring.so

$(BUILD)/lib/$(SO): $(BUILD)/lib/libnetring.a netring.map
	$(LINK_SO)
	@$(LINK_NAMES)

# The library once more with test hooks (netring_test_*), for tests alone.
hooks: $(BUILD)/hooks/$(SO) $(BUILD)/hooks/libnetring.a

$(BUILD)/hooks/cargo/release/libnetring.a: FORCE | toolchain
	@CARGO_TARGET_DIR=$(BUILD)/hooks/cargo $(CARGO_RUN) rustc --quiet --release --locked --lib --crate-type staticlib \
		--features test-hooks

$(BUILD)/hooks/libnetring.a: $(BUILD)/hooks/cargo/release/libnetring.a
	@mkdir -p $(@D)
	cp $< $@

$(BUILD)/hooks/netring.map: netring.map
	@mkdir -p $(@D)
	sed 's/^    global:/&\n        netring_test_*;/' $< >$@

$(BUILD)/hooks/$(SO): $(BUILD)/hooks/libnetring.a $(BUILD)/hooks/netring.map
	$(LINK_SO)
	@$(LINK_NAMES)

# ---- examples --------------------------------------------------------------
# Linked with the archive: a program with file capabilities ignores
# LD_LIBRARY_PATH and $ORIGIN, so only this way does setcap help in the build tree.

examples: $(EXAMPLES)

$(BUILD)/examples/%: c-examples/%.c $(BUILD)/lib/libnetring.a
	@mkdir -p $(@D)
	$(CC) $(EXAMPLE_CFLAGS) $(CFLAGS) -Iinclude -MMD -MP -MF $@.d -o $@ $< $(LDFLAGS) \
		$(BUILD)/lib/libnetring.a $(NATIVE_LIBS)

-include $(wildcard $(BUILD)/examples/*.d)

run: $(BUILD)/examples/capture
	@IFACE='$(IFACE)' COUNT='$(COUNT)' scripts/run.sh $< $(ARGS)

# ---- tests -----------------------------------------------------------------

check:
	@set -f; tests/run.sh $(SUITES)  # c-* is for run.sh, not for c-examples

# On other kernels, emulated: KERNELS="5.10 7" TESTS="wait xdp*" for some.
check-qemu:
	@set -f; tests/qemu/run.sh -k '$(KERNELS)' $(TESTS)

# Not part of check: MINUTES=15 of traffic, overload, flaps and removals.
soak: lib
	@MINUTES='$(MINUTES)' tests/soak/run.sh

bench: lib hooks
	@benches/run.sh

fuzz: toolchain
	@fuzz/run.sh '$(TARGET)' '$(or $(SECONDS),180)'

fuzz-run: toolchain
	@CARGO_TARGET_DIR=$(BUILD)/fuzz $(CARGO_RUN) run --quiet --release --locked \
		--manifest-path fuzz/Cargo.toml --bin seeds -- --run '$(TARGET)' '$(INPUT)'

HEADER_TOOL = CARGO_TARGET_DIR=$(BUILD)/tools $(CARGO_RUN) run --quiet --locked \
	--manifest-path tools/header/Cargo.toml --

header: toolchain
	@$(HEADER_TOOL) .

header-check: toolchain
	@$(HEADER_TOOL) . --check

fmt:
	cargo fmt
	cd tools/header && cargo fmt
	cd fuzz && cargo fmt
	scripts/format.sh

# Before a release: the functions of the header become those of the map, the library and the list.
symbols: header
	@tests/abi/symbols.sh --map
	@$(MAKE) --no-print-directory lib
	@tests/abi/symbols.sh --write
	@tests/abi/symbols.sh

abi-baseline: lib
	@tests/abi/abidiff.sh --baseline

# ---- install ---------------------------------------------------------------
# install does not build what is there already, so that `sudo make install` needs
# no cargo of root's.

# An absolute LIBDIR or INCLUDEDIR stands for itself, a relative one is below PREFIX.
below = $(if $(filter /%,$(1)),$(1),$(PREFIX)/$(1))
# In the .pc file everything below PREFIX is relative to it: --define-prefix moves it.
in_pc = $(patsubst $(PREFIX)/%,$${prefix}/%,$(call below,$(1)))
libdir := $(DESTDIR)$(call below,$(LIBDIR))
includedir := $(DESTDIR)$(call below,$(INCLUDEDIR))
mandir := $(DESTDIR)$(call below,$(MANDIR))
docdir := $(DESTDIR)$(call below,$(DOCDIR))

MAN3 := $(wildcard man/*.3)
MAN7 := $(wildcard man/*.7)
# As they lie here, so that the links between them hold where they are installed.
DOCS := $(wildcard README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs/*.md c-examples/*.c)

install: $(if $(wildcard $(BUILD)/lib/$(SO)),,lib)
	$(INSTALL) -d '$(libdir)/pkgconfig' '$(includedir)' '$(docdir)/docs' '$(docdir)/c-examples'
	$(INSTALL) -m 755 $(BUILD)/lib/$(SO) '$(libdir)/$(SO)'
	$(STRIP) -g '$(libdir)/$(SO)'
	ln -sf $(SO) '$(libdir)/$(SONAME)'
	ln -sf $(SONAME) '$(libdir)/libnetring.so'
	$(INSTALL) -m 644 $(BUILD)/lib/libnetring.a '$(libdir)/libnetring.a'
	$(STRIP) -g '$(libdir)/libnetring.a'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(call in_pc,$(LIBDIR))|' \
		-e 's|@INCLUDEDIR@|$(call in_pc,$(INCLUDEDIR))|' -e 's|@VERSION@|$(VERSION)|' \
		-e 's|@LIBS_PRIVATE@|$(NATIVE_LIBS)|' pkgconfig/netring.pc.in >'$(libdir)/pkgconfig/netring.pc'
	chmod 644 '$(libdir)/pkgconfig/netring.pc'
	$(INSTALL) -m 644 $(HEADERS) '$(includedir)'
	$(foreach f,$(DOCS),$(INSTALL) -m 644 $(f) '$(docdir)/$(f)' &&) :
	$(if $(MAN3),$(INSTALL) -d '$(mandir)/man3' && $(INSTALL) -m 644 $(MAN3) '$(mandir)/man3')
	$(if $(MAN7),$(INSTALL) -d '$(mandir)/man7' && $(INSTALL) -m 644 $(MAN7) '$(mandir)/man7')
	@$(if $(DESTDIR),:,echo 'Installed. If the loader does not find $(SONAME), run: ldconfig')

uninstall:
	rm -f '$(libdir)/$(SO)' '$(libdir)/$(SONAME)' '$(libdir)/libnetring.so' '$(libdir)/libnetring.a' \
		'$(libdir)/pkgconfig/netring.pc' \
		$(foreach f,$(notdir $(HEADERS)),'$(includedir)/$(f)') \
		$(foreach f,$(DOCS),'$(docdir)/$(f)') \
		$(foreach f,$(notdir $(MAN3)),'$(mandir)/man3/$(f)') \
		$(foreach f,$(notdir $(MAN7)),'$(mandir)/man7/$(f)')
	-rmdir --ignore-fail-on-non-empty '$(docdir)/docs' '$(docdir)/c-examples' '$(docdir)' 2>/dev/null || :

dist:
	@mkdir -p $(BUILD)/dist
	git archive --format=tar.gz --prefix=libnetring-$(VERSION)/ -o $(BUILD)/dist/libnetring-$(VERSION).tar.gz HEAD
	@echo '$(BUILD)/dist/libnetring-$(VERSION).tar.gz'

clean:
	rm -rf $(BUILD)
