module netring.test/ffi

go 1.19
