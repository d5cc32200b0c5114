# For Makefiles: `include path/to/guest_sdk/sdk.mk` first. It sets the compilers and how a program is made:
#   prog.wasm: prog.c          from one source, by the rule below
#   all the rest               $(CC), $(CXX), $(AR) and $(RANLIB) as in any Makefile
# SDK_PYTHON is the Python that has ziglang.

SDK_DIR := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
SDK_PYTHON ?= python3

CC := $(SDK_PYTHON) $(SDK_DIR)/cc.py
CXX := $(SDK_PYTHON) $(SDK_DIR)/cc.py --c++
AR := $(SDK_PYTHON) -m ziglang ar
RANLIB := $(SDK_PYTHON) -m ziglang ranlib
CFLAGS ?= -O2
CXXFLAGS ?= -O2

%.wasm: %.c
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

%.wasm: %.cpp
	$(CXX) $(CPPFLAGS) $(CXXFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
