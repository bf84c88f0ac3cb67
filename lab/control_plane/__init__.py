"""etcd, kube-apiserver, kube-controller-manager and istiod, as a cluster would run them."""
