// A capture over veth from Go, and the errors it gets. Arguments: interface, address that is reached
// through it, or "denied" where capturing is not allowed.
package main

/*
#cgo pkg-config: netring
#include <netring.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

const datagrams, batch = 500, 64

var failed = false

func check(pass bool, format string, args ...any) {
	word := "ok"
	if !pass {
		word, failed = "not ok", true
	}
	fmt.Printf(word+" - "+format+"\n", args...)
}

// open returns the code, the text, and what cgo makes of errno.
func open(name string, config *C.struct_netring_capture_config) (*C.struct_netring_capture, C.int, string, error) {
	var capture *C.struct_netring_capture
	var detail C.struct_netring_error
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	rc, errno := C.netring_capture_open(cname, config, &capture, &detail)
	return capture, rc, C.GoString(&detail.message[0]), errno
}

// What a walk finds of a packet.
type found struct {
	data   *C.uint8_t
	caplen C.uint32_t
	time   C.uint64_t
}

// walk goes over a block without a call for each packet, in both layouts; false: its memory is damaged.
func walk(view *C.struct_netring_block_view) (all []found, whole bool) {
	at := func(offset uint64) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(view.base), offset) }
	offset := uint64(view.first)
	for left := view.count; left > 0; left-- {
		if view.layout == C.NETRING_LAYOUT_PACKETS {
			// The library's own memory: every packet is good.
			p := (*C.struct_netring_packet)(at(offset))
			all = append(all, found{p.data, p.caplen, p.time_ns})
			offset += uint64(view.stride)
			continue
		}
		// struct tpacket3_hdr and struct sockaddr_ll take 68 bytes.
		if view.layout != C.NETRING_LAYOUT_TPACKET3 || offset%8 != 0 || offset+68 > uint64(view.length) {
			return all, false
		}
		u32 := func(field uint64) uint32 { return *(*uint32)(at(offset + field)) }
		if u32(20)&1 != 0 { // TP_STATUS_USER: there is a packet
			mac, caplen := uint64(*(*uint16)(at(offset + 24))), uint64(u32(12))
			if offset+mac+caplen > uint64(view.length) {
				return all, false
			}
			time := uint64(u32(4))*1000000000 + uint64(u32(8))
			all = append(all, found{(*C.uint8_t)(at(offset + mac)), C.uint32_t(caplen), C.uint64_t(time)})
		}
		if step := uint64(u32(0)); step >= 68 {
			offset += step
		} else if left > 1 {
			return all, false
		}
	}
	return all, true
}

// array walks AF_XDP's layout, made here: elements that have grown, and not from the first byte on.
func array() {
	const count, stride, first = 5, 72, 8
	memory := C.calloc(count+1, stride)
	defer C.free(memory)
	view := (*C.struct_netring_block_view)(C.calloc(1, C.sizeof_struct_netring_block_view))
	defer C.free(unsafe.Pointer(view))
	view.layout, view.base, view.length = C.NETRING_LAYOUT_PACKETS, (*C.uint8_t)(memory), (count+1)*stride
	view.first, view.count, view.stride = first, count, stride
	for i := 0; i < count; i++ {
		p := (*C.struct_netring_packet)(unsafe.Add(memory, first+stride*i))
		p.data, p.caplen, p.time_ns = (*C.uint8_t)(unsafe.Add(memory, i)), C.uint32_t(60+i), C.uint64_t(i)
	}
	all, whole := walk(view)
	same := 0
	for i, f := range all {
		if f == (found{(*C.uint8_t)(unsafe.Add(memory, i)), C.uint32_t(60 + i), C.uint64_t(i)}) {
			same++
		}
	}
	check(whole && len(all) == count && same == count, "%d of %d packets of an array", same, count)
}

func receive(name, address string) {
	capture, rc, text, errno := open(name, nil)
	if rc < 0 {
		check(false, "open: %s", text)
		return
	}
	check(errno == nil, "success leaves errno alone (%v)", errno)
	conn, err := net.Dial("udp4", address+":9")
	check(err == nil, "a socket to send with (%v)", err)
	for i := 0; i < datagrams; i++ {
		fmt.Fprintf(conn, "netring %d", i)
	}
	// In C's memory: a Go array would be searched for pointers at each call.
	packets := (*[batch]C.struct_netring_packet)(C.calloc(batch, C.sizeof_struct_netring_packet))
	defer C.free(unsafe.Pointer(packets))
	view := (*C.struct_netring_block_view)(C.calloc(1, C.sizeof_struct_netring_block_view))
	defer C.free(unsafe.Pointer(view))
	seen, read, walked, stopping := 0, 0, 0, false
	for {
		var block *C.struct_netring_block
		if rc = C.netring_capture_next_block(capture, 3000, &block); rc < 0 {
			break
		}
		var all []found
		if rc > 0 && C.netring_block_view(block, view, C.sizeof_struct_netring_block_view) == 0 {
			all, _ = walk(view)
		}
		for rc > 0 {
			n := C.netring_block_read(block, &packets[0], C.sizeof_struct_netring_packet, batch)
			if n <= 0 {
				break
			}
			for _, p := range packets[:n] {
				if len(all) > 0 && all[0] == (found{p.data, p.caplen, p.time_ns}) {
					walked, all = walked+1, all[1:]
				}
				read++
				data := unsafe.Slice((*byte)(p.data), p.caplen)
				if p.protocol == 0x0800 && len(data) > 42 && data[36] == 0 && data[37] == 9 &&
					string(data[42:]) == fmt.Sprintf("netring %d", seen) {
					seen++
				}
			}
		}
		C.netring_block_release(block)
		if !stopping && (seen == datagrams || rc == 0) {
			stopping = true
			go C.netring_capture_stop(capture) // from whatever thread
		}
	}
	check(rc == C.NETRING_ESHUTDOWN, "ended by stop: %s", C.GoString(C.netring_err_name(rc)))
	check(seen == datagrams, "%d of %d datagrams, in order", seen, datagrams)
	check(walked == read && read >= datagrams, "%d of %d packets found by a walk, too", walked, read)
	var stats C.struct_netring_stats
	rc = C.netring_capture_stats(capture, &stats, C.sizeof_struct_netring_stats)
	check(rc == 0 && stats.delivered >= datagrams && stats.dropped == 0, "counters: %d delivered", stats.delivered)
	check(C.netring_capture_close(capture) == 0, "close")
	rc, errno = C.netring_capture_flush(capture)
	check(rc == C.NETRING_EBADF && errno == syscall.EBADF, "a closed capture: %d, %v", rc, errno)
}

// Goroutines change threads between calls: each must get its own text.
func goroutines() {
	var wait sync.WaitGroup
	var mutex sync.Mutex
	wrong := 0
	for g := 0; g < 16; g++ {
		wait.Add(1)
		go func(name string) {
			defer wait.Done()
			for i := 0; i < 1000; i++ {
				_, rc, text, errno := open(name, nil)
				if i%8 == 0 {
					runtime.Gosched()
				}
				if rc != C.NETRING_ENODEV || errno != syscall.ENODEV || !strings.Contains(text, name) {
					mutex.Lock()
					wrong++
					mutex.Unlock()
				}
			}
		}(fmt.Sprintf("nosuch%02d", g))
	}
	wait.Wait()
	check(wrong == 0, "16 goroutines, 16000 failures, %d with another one's text", wrong)
}

// What is written into a savefile is read from it, and a missing file is an error that names it.
func savefile() {
	directory, err := os.MkdirTemp("", "netring-go")
	check(err == nil, "a directory (%v)", err)
	defer os.RemoveAll(directory)
	path := C.CString(directory + "/x.pcapng")
	defer C.free(unsafe.Pointer(path))
	var detail C.struct_netring_error
	var writer *C.struct_netring_writer
	var reader *C.struct_netring_reader
	rc, errno := C.netring_reader_open(path, nil, &reader, &detail)
	check(rc == C.NETRING_EIO && errno == syscall.ENOENT && strings.Contains(C.GoString(&detail.message[0]), "x.pcapng"),
		"nothing to read yet: %s", C.GoString(&detail.message[0]))
	check(C.netring_writer_open(path, nil, &writer, &detail) == 0, "a writer")
	id := C.netring_writer_add_interface(writer, nil, C.NETRING_LINKTYPE_ETHERNET, 0, &detail)
	data := C.CString(strings.Repeat("netring ", 10))
	defer C.free(unsafe.Pointer(data))
	// A packet has a pointer to its bytes, so that both are C's.
	packet := (*C.struct_netring_packet)(C.calloc(1, C.sizeof_struct_netring_packet))
	defer C.free(unsafe.Pointer(packet))
	packet.data, packet.caplen, packet.len = (*C.uint8_t)(unsafe.Pointer(data)), 80, 90
	packet.time_ns, packet.link_type = 1700000000123456789, C.NETRING_LINKTYPE_ETHERNET
	written := 0
	for i := 0; i < 100; i++ {
		written += int(C.netring_writer_write(writer, C.uint32_t(id), packet, C.sizeof_struct_netring_packet, 1))
		packet.time_ns++
	}
	check(written == 100, "%d packets are written", written)
	check(C.netring_writer_close(writer, &detail) == 0, "the writer is closed")

	check(C.netring_reader_open(path, nil, &reader, &detail) == 0, "a reader")
	seen, same := 0, true
	for {
		if rc = C.netring_reader_next_packet(reader, -1, packet, C.sizeof_struct_netring_packet); rc <= 0 {
			break
		}
		text := string(unsafe.Slice((*byte)(packet.data), packet.caplen))
		same = same && text == strings.Repeat("netring ", 10) && packet.len == 90 &&
			packet.time_ns == C.uint64_t(1700000000123456789+seen)
		seen++
	}
	check(rc == C.NETRING_ESHUTDOWN && seen == 100 && same, "%d packets are read as they were", seen)
	check(C.netring_reader_close(reader) == 0, "the reader is closed")
}

// Frames written in place at the other end of the wire arrive here, in order.
func inject(name string) {
	const count, batch = 200, 16
	capture, rc, text, _ := open(name, nil)
	if rc < 0 {
		check(false, "open: %s", text)
		return
	}
	defer C.netring_capture_close(capture)
	var config C.struct_netring_injector_config
	C.netring_injector_config_init(&config, C.sizeof_struct_netring_injector_config)
	config.slot_count = 64
	var injector *C.struct_netring_injector
	var detail C.struct_netring_error
	other := C.CString("nr0")
	defer C.free(unsafe.Pointer(other))
	if rc = C.netring_injector_open(other, &config, &injector, &detail); rc < 0 {
		check(false, "open: %s", C.GoString(&detail.message[0]))
		return
	}
	// In C's memory, as packets.
	slots := (*[batch]C.struct_netring_slot)(C.calloc(batch, C.sizeof_struct_netring_slot))
	defer C.free(unsafe.Pointer(slots))
	sent := 0
	for sent < count {
		n := C.netring_injector_reserve(injector, &slots[0], C.sizeof_struct_netring_slot, batch, 3000)
		if n <= 0 {
			check(false, "reserve: %s", C.GoString(C.netring_err_name(n)))
			break
		}
		for i := range slots[:n] {
			slots[i].len = 0 // one that is too many is discarded
			if sent < count {
				frame := unsafe.Slice((*byte)(slots[i].data), slots[i].capacity)
				copy(frame, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5")
				slots[i].len = C.uint32_t(14 + copy(frame[14:], fmt.Sprintf("netring %d", sent)))
				sent++
			}
		}
		if C.netring_injector_commit(injector, &slots[0], C.sizeof_struct_netring_slot, C.size_t(n)) != n ||
			C.netring_injector_flush(injector) < 0 {
			check(false, "commit and flush")
			break
		}
	}
	check(C.netring_injector_drain(injector, 3000) == 1, "%d frames have left", sent)
	packet := (*C.struct_netring_packet)(C.calloc(1, C.sizeof_struct_netring_packet))
	defer C.free(unsafe.Pointer(packet))
	seen := 0
	for seen < count && C.netring_capture_next_packet(capture, 3000, packet, C.sizeof_struct_netring_packet) == 1 {
		data := unsafe.Slice((*byte)(packet.data), packet.caplen)
		if packet.protocol == 0x88b5 && string(data[14:]) == fmt.Sprintf("netring %d", seen) {
			seen++
		}
	}
	check(seen == count, "%d of %d arrive, in order", seen, count)
	var stats C.struct_netring_injector_stats
	rc = C.netring_injector_stats(injector, &stats, C.sizeof_struct_netring_injector_stats)
	check(rc == 0 && stats.handed == count && stats.completed == count && stats.refused == 0,
		"counters: %d handed over", stats.handed)
	check(C.netring_injector_close(injector) == 0, "close, with nothing left")
	rc, errno := C.netring_injector_flush(injector)
	check(rc == C.NETRING_EBADF && errno == syscall.EBADF, "a closed injector: %d, %v", rc, errno)
}

// openXdp opens AF_XDP sockets on all queues; what arrives there is taken away from the host.
func openXdp(name string) (*C.struct_netring_xdp, *C.struct_netring_queue, C.int, string) {
	var config C.struct_netring_xdp_config
	var detail C.struct_netring_error
	var xdp *C.struct_netring_xdp
	var queue *C.struct_netring_queue
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	C.netring_xdp_config_init(&config, C.sizeof_struct_netring_xdp_config)
	config.redirect, config.rx_frames, config.tx_frames = C.NETRING_REDIRECT_ALL, 256, 64
	rc := C.netring_xdp_open(cname, nil, 0, &config, &xdp, &detail)
	if rc == 0 {
		rc = C.netring_xdp_queue(xdp, 0, &queue)
	}
	return xdp, queue, rc, C.GoString(&detail.message[0])
}

// Frames sent by one AF_XDP socket arrive at another, in order, and go back without a copy.
func afXdp(name string) {
	const count = 200
	here, from, rc, text := openXdp(name)
	if rc == C.NETRING_EPERM {
		fmt.Printf("ok - AF_XDP # SKIP %s\n", text) // XDP programs are not for user namespaces
		return
	}
	check(rc == 0, "AF_XDP on %s: %s", name, text)
	there, to, rc, text := openXdp("nr0")
	check(rc == 0, "AF_XDP on nr0: %s", text)
	slots := (*[batch]C.struct_netring_slot)(C.calloc(batch, C.sizeof_struct_netring_slot))
	defer C.free(unsafe.Pointer(slots))
	packets := (*[batch]C.struct_netring_packet)(C.calloc(batch, C.sizeof_struct_netring_packet))
	defer C.free(unsafe.Pointer(packets))
	sent := 0
	for sent < count {
		n := C.netring_queue_reserve(to, &slots[0], C.sizeof_struct_netring_slot, batch, 3000)
		if n <= 0 {
			check(false, "reserve: %s", C.GoString(C.netring_err_name(n)))
			return
		}
		for i := range slots[:n] {
			slots[i].len = 0 // one that is too many is discarded
			if sent < count {
				frame := unsafe.Slice((*byte)(slots[i].data), slots[i].capacity)
				copy(frame, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5")
				slots[i].len = C.uint32_t(14 + copy(frame[14:], fmt.Sprintf("netring %d", sent)))
				sent++
			}
		}
		if C.netring_queue_commit(to, &slots[0], C.sizeof_struct_netring_slot, C.size_t(n)) != n ||
			C.netring_queue_flush(to) < 0 {
			check(false, "commit and flush")
			return
		}
	}
	check(C.netring_queue_drain(to, 3000) == 1, "%d frames have left", sent)
	// receive walks blocks until `count` frames have come, and gives back how many were right.
	receive := func(queue *C.struct_netring_queue, mark byte, each func(*C.struct_netring_block, *C.struct_netring_packet)) int {
		seen := 0
		for seen < count {
			var block *C.struct_netring_block
			if C.netring_queue_next_block(queue, 3000, &block) <= 0 {
				break
			}
			for {
				n := C.netring_block_read(block, &packets[0], C.sizeof_struct_netring_packet, batch)
				if n <= 0 {
					break
				}
				for i := range packets[:n] {
					p := &packets[i]
					data := unsafe.Slice((*byte)(p.data), p.caplen)
					if len(data) > 14 && data[12] == 0x88 && data[13] == mark &&
						string(data[14:]) == fmt.Sprintf("netring %d", seen) {
						seen++
						each(block, p)
					}
				}
			}
			C.netring_queue_flush(queue)
			C.netring_block_release(block)
		}
		return seen
	}
	forwarded := 0
	seen := receive(from, 0xb5, func(block *C.struct_netring_block, p *C.struct_netring_packet) {
		unsafe.Slice((*byte)(p.data), p.caplen)[13] = 0xb6
		forwarded += int(C.netring_queue_forward(from, block, p, C.sizeof_struct_netring_packet, 1))
	})
	check(seen == count && forwarded == count, "%d of %d arrive, in order; %d are sent back", seen, count, forwarded)
	seen = receive(to, 0xb6, func(*C.struct_netring_block, *C.struct_netring_packet) {})
	check(seen == count, "%d of %d come back", seen, count)
	var stats C.struct_netring_stats
	var counters C.struct_netring_xdp_counters
	rc = C.netring_xdp_stats(here, &stats, C.sizeof_struct_netring_stats)
	check(rc == 0 && stats.delivered >= count && stats.dropped == 0, "counters: %d delivered", stats.delivered)
	rc = C.netring_queue_counters(from, &counters, C.sizeof_struct_netring_xdp_counters)
	check(rc == 0 && counters.forwarded == count, "counters: %d forwarded", counters.forwarded)
	go C.netring_xdp_stop(here) // from whatever thread
	var block *C.struct_netring_block
	for rc = 1; rc > 0; C.netring_block_release(block) {
		rc = C.netring_queue_next_block(from, 3000, &block)
	}
	check(rc == C.NETRING_ESHUTDOWN, "ended by stop: %s", C.GoString(C.netring_err_name(rc)))
	check(C.netring_xdp_close(here) == 0 && C.netring_xdp_close(there) == 0, "close")
	rc, errno := C.netring_queue_flush(from)
	check(rc == C.NETRING_EBADF && errno == syscall.EBADF, "a closed xdp's queue: %d, %v", rc, errno)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "denied" {
		_, rc, text, errno := open("lo", nil)
		check(rc == C.NETRING_EPERM && errno == syscall.EPERM, "%v: %s", errno, text)
	} else {
		_, rc, text, errno := open("nosuch0", nil)
		check(rc == C.NETRING_ENODEV && errno == syscall.ENODEV, "%v: %s", errno, text)
		var config C.struct_netring_capture_config
		_, rc, text, errno = open("lo", &config)
		check(rc == C.NETRING_EINVAL && errno == syscall.EINVAL, "never initialised: %s", text)
		C.netring_capture_config_init(&config, C.sizeof_struct_netring_capture_config)
		config.block_count = 70000
		_, rc, text, _ = open("lo", &config)
		check(rc == C.NETRING_EINVAL && strings.Contains(text, "block_count"), "%s", text)
		goroutines()
		array()
		receive(os.Args[1], os.Args[2])
		savefile()
		inject(os.Args[1])
		afXdp(os.Args[1])
	}
	if failed {
		os.Exit(1)
	}
}
