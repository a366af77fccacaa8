// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {IImageMarketplace} from "./interfaces/IImageMarketplace.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Burning} from "./libraries/Burning.sol";
import {CodeStore} from "./libraries/CodeStore.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {Perspectives} from "./libraries/Perspectives.sol";
import {Q32} from "./libraries/Q32.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title ImageMarketplace
/// @notice See {IImageMarketplace}. Revenue is kept and paid by the PaymentManager; this contract holds the bonds only.
contract ImageMarketplace is IImageMarketplace, Base, TypedData, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /* TYPES */

    /// @dev What opening a job reads, two slots. `since` and `bond` see {ImageView}; `detail` is the contract that keeps
    /// the Detail.
    struct Image {
        address publisher;
        Status status;
        Model model;
        uint8 token;
        uint16 royaltyBps;
        uint40 since;
        uint16 bond;
        uint96 price;
        address detail;
    }

    /// @dev What changes with a version only, kept as code.
    struct Detail {
        bytes32 imageId;
        bytes32 manifestHash;
        uint32 version;
        uint32 parent;
        uint16 parentBps;
        uint8 depth;
        Recipient[] recipients;
    }

    /// @dev One slot. See {weightsOf} for the sums.
    struct Ratings {
        uint104 weightSum;
        uint104 weightedStars;
        uint32 count;
    }

    /// @custom:storage-location erc7201:aleph.storage.ImageMarketplace.v1
    struct ImageMarketplaceStorage {
        uint32 lastSeq;
        mapping(uint32 seq => Image) images;
        mapping(uint32 seq => Ratings) ratings;
        mapping(uint32 seq => mapping(address payer => RatingView)) ratingOf;
        mapping(uint8 token => uint128) usdUnits;
    }

    /* CONSTANTS */

    uint16 private constant _BPS = 10_000;

    /// @dev All parts of an image. Parts of an image are multiples of 10^8, those of its derivative of 10^4, and those of
    /// that one's derivative of 1: flattening a list never rounds.
    uint256 private constant _WHOLE = 1e12;

    uint16 private constant _MAX_ROYALTY = 2_000;
    uint16 private constant _MAX_PARENT = 3_000;
    uint256 private constant _MAX_SPLITS = 6;
    uint8 private constant _MAX_DEPTH = 3;

    /// @dev The highest rate of a pair in the PaymentManager.
    uint256 private constant _MAX_PRICE = type(uint96).max;

    uint16 private constant _BOND = 50;
    uint16 private constant _BOND_MAX = 10_000;

    /// @dev The time for finding malware in an image that has ended.
    uint40 private constant _BOND_LOCK = 30 days;

    /// @dev The lengths of a Detail without recipients and of a recipient, in bytes.
    uint256 private constant _HEAD = 75;
    uint256 private constant _ENTRY = 25;

    uint8 private constant _MAX_STARS = 5;
    uint40 private constant _MIN_RUN = 24 hours;
    uint256 private constant _MAX_WEIGHT = 16;

    /// @dev The weight of a rating halves with every period. Period 0 began in March 2025; after 60 of them, in 2054, the
    /// halving ends, so that 2^32 ratings of the highest weight fit into the sums.
    uint256 private constant _PERIOD = 180 days;
    uint256 private constant _FIRST_PERIOD = 112;
    uint256 private constant _LAST_PERIOD = 60;

    /// @dev Coordinators that must agree that an image is malware, and regions they must be in.
    uint256 private constant _SCANNERS = 5;
    uint256 private constant _REGIONS = 1;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.ImageMarketplace.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0x0594b9d62db274cd8e5f583048d4e0b1728e4ed802add45a9ebd164689dcb500;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.images) {}

    /// @notice Sets up a new proxy: the default bond.
    function initialize() external initializer {
        _initBase();
        _setBond(_BOND);
    }

    /* PUBLISHING */

    /// @inheritdoc IImageMarketplace
    function publish(Listing calldata listing) external nonReentrant unpaused(Pausing.ENTRY) returns (uint32 seq) {
        _checkTerms(listing);
        Detail memory d = _detailOf(listing);
        ImageMarketplaceStorage storage $ = _storage();
        seq = ++$.lastSeq;
        uint16 bond = bondOfNew();
        $.images[seq] = Image({
            publisher: msg.sender,
            status: Status.Published,
            model: listing.model,
            token: listing.token,
            royaltyBps: listing.royaltyBps,
            since: uint40(block.timestamp),
            bond: bond,
            price: uint96(listing.price),
            detail: CodeStore.write(_encode(d))
        });
        emit ImagePublished(
            seq,
            msg.sender,
            listing.model,
            listing.token,
            listing.price,
            listing.royaltyBps,
            listing.parent,
            listing.parentBps,
            bond
        );
        emit SplitSet(seq, d.recipients);
        emit ImageVersion(seq, d.imageId, d.manifestHash, d.version);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), uint256(bond) * 1 ether);
    }

    /// @inheritdoc IImageMarketplace
    function newVersion(uint32 seq, bytes32 imageId, bytes32 manifestHash) external unpaused(Pausing.ENTRY) {
        Image storage i = _published(seq);
        if (imageId == 0 || manifestHash == 0) revert AlephErrors.ZeroHash();
        Detail memory d = _decode(CodeStore.read(i.detail));
        (d.imageId, d.manifestHash, d.version) = (imageId, manifestHash, d.version + 1);
        i.detail = CodeStore.write(_encode(d));
        emit ImageVersion(seq, imageId, manifestHash, d.version);
    }

    /// @inheritdoc IImageMarketplace
    function setStatus(uint32 seq, Status status) external {
        Image storage i = _published(seq);
        if (status == Status.None || status > Status.Hidden) {
            revert AlephErrors.OutOfBounds(uint8(status), uint8(Status.Published), uint8(Status.Hidden));
        }
        if (status == Status.Published) _checkUnpaused(Pausing.ENTRY);
        _advance(seq, i, status);
    }

    /// @inheritdoc IImageMarketplace
    function unpublish(uint32 seq) external {
        Image storage i = _published(seq);
        i.since = uint40(block.timestamp);
        _advance(seq, i, Status.Removed);
    }

    /// @inheritdoc IImageMarketplace
    function returnBond(uint32 seq) external nonReentrant unpaused(Pausing.EXIT) {
        Image storage i = _known(seq);
        if (i.status < Status.Removed) revert AlephErrors.BadState(uint8(i.status), uint8(Status.Removed));
        uint40 until = i.since + _BOND_LOCK;
        if (i.bond == 0) revert BondLocked(0);
        if (block.timestamp < until) revert BondLocked(until);
        (address publisher, uint256 amount) = (i.publisher, uint256(i.bond) * 1 ether);
        i.bond = 0;
        emit BondReturned(seq, publisher, amount);
        IERC20(TOKEN).safeTransfer(publisher, amount);
    }

    /* MODERATION */

    /// @inheritdoc IImageMarketplace
    function takedown(uint32 seq, bytes32 reason) external restricted {
        Image storage i = _known(seq);
        if (i.status == Status.TakenDown) revert ImageNotUsable(seq, Status.TakenDown);
        if (reason == 0) revert AlephErrors.ZeroHash();
        i.since = uint40(block.timestamp);
        _advance(seq, i, Status.TakenDown);
        emit ImageTakenDown(seq, reason);
    }

    /// @inheritdoc IImageMarketplace
    function restore(uint32 seq) external restricted {
        Image storage i = _known(seq);
        _checkTakenDown(i);
        // Without a bond it would be listed for nothing.
        if (i.bond == 0) revert BondLocked(0);
        _advance(seq, i, Status.Hidden);
    }

    /// @inheritdoc IImageMarketplace
    function forfeit(uint32 seq, bytes32 reason, bytes calldata sigs) external nonReentrant unpaused(Pausing.PENALTY) {
        Image storage i = _known(seq);
        _checkTakenDown(i);
        uint256 amount = uint256(i.bond) * 1 ether;
        if (amount == 0) revert BondLocked(0);
        Perspectives.check(NODES, verdictDigest(seq, reason), sigs, _SCANNERS, _REGIONS);
        i.bond = 0;
        emit BondForfeited(seq, reason, amount);
        Burning.burn(TOKEN, amount);
    }

    /* REVENUE */

    /// @inheritdoc IImageMarketplace
    function distribute(uint32 seq, uint8 token, address[] calldata payers)
        external
        nonReentrant
        returns (uint256 paid)
    {
        bytes memory detail = CodeStore.read(_known(seq).detail);
        uint64 payee = Payees.ofImage(seq);
        if (payers.length != 0) IPaymentManager(PAYMENTS).claim(payee, token, payers);
        uint256 credit = IPaymentManager(PAYMENTS).creditOf(payee, token);
        uint256 n = _count(detail);
        (address[] memory to, uint128[] memory amounts) = (new address[](n), new uint128[](n));
        // The credit has 128 bits and the parts make 10^12: nothing overflows, and no amount is above the credit.
        unchecked {
            for (uint256 i; i < n; ++i) {
                (address recipient, uint256 part) = _entry(detail, i);
                uint256 amount = credit * part / _WHOLE;
                (to[i], amounts[i]) = (recipient, uint128(amount));
                paid += amount;
            }
        }
        if (paid == 0) revert AlephErrors.ZeroAmount();
        emit RoyaltiesDistributed(seq, token, paid);
        IPaymentManager(PAYMENTS).payOut(payee, token, to, amounts);
    }

    /* RATINGS */

    /// @inheritdoc IImageMarketplace
    function rate(uint32 seq, uint8 stars, bytes32 spec, bytes32 reviewHash) external {
        if (stars == 0 || stars > _MAX_STARS) revert AlephErrors.OutOfBounds(stars, 1, _MAX_STARS);
        uint8 weight = _weigh(seq, spec);
        uint8 period = uint8(_periodNow());
        ImageMarketplaceStorage storage $ = _storage();
        RatingView memory old = $.ratingOf[seq][msg.sender];
        Ratings memory r = $.ratings[seq];
        if (old.stars == 0) {
            ++r.count;
        } else {
            uint104 gone = uint104(old.weight) << old.period;
            (r.weightSum, r.weightedStars) = (r.weightSum - gone, r.weightedStars - gone * old.stars);
        }
        uint104 grown = uint104(weight) << period;
        (r.weightSum, r.weightedStars) = (r.weightSum + grown, r.weightedStars + grown * stars);
        $.ratings[seq] = r;
        $.ratingOf[seq][msg.sender] = RatingView(stars, weight, period, uint40(block.timestamp));
        emit ImageRated(seq, msg.sender, spec, stars, weight, period, reviewHash, r.weightSum, r.weightedStars, r.count);
    }

    /* PARAMETERS */

    /// @inheritdoc IImageMarketplace
    function setUsdUnit(uint8 token, uint128 unit) external restricted {
        _storage().usdUnits[token] = unit;
        emit UsdUnitSet(token, unit);
    }

    /// @inheritdoc IImageMarketplace
    function setBond(uint16 bond) external restricted {
        if (bond == 0 || bond > _BOND_MAX) revert AlephErrors.OutOfBounds(bond, 1, _BOND_MAX);
        _setBond(bond);
    }

    /* VIEWS */

    /// @inheritdoc IImageMarketplace
    function quote(uint32 seq, uint8 token, uint128 computeRateQ32)
        external
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once)
    {
        Status status = _storage().images[seq].status;
        if (!_isUsable(status)) revert ImageNotUsable(seq, status);
        return _quote(seq, token, computeRateQ32);
    }

    /// @inheritdoc IImageMarketplace
    function quoteKept(uint32 seq, uint8 token, uint128 computeRateQ32)
        external
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once)
    {
        if (!_isPaying(seq)) return (Payees.ofImage(seq), 0, 0);
        return _quote(seq, token, computeRateQ32);
    }

    /// @inheritdoc IImageMarketplace
    function usable(uint32 seq) external view returns (bool) {
        return _isUsable(_storage().images[seq].status);
    }

    /// @inheritdoc IImageMarketplace
    function isPaying(uint32 seq) external view returns (bool) {
        return _isPaying(seq);
    }

    /// @inheritdoc IImageMarketplace
    function image(uint32 seq) external view returns (ImageView memory v) {
        Image memory i = _storage().images[seq];
        if (i.status == Status.None) return v;
        Detail memory d = _decode(CodeStore.read(i.detail));
        v = ImageView({
            publisher: i.publisher,
            status: i.status,
            model: i.model,
            token: i.token,
            price: i.price,
            royaltyBps: i.royaltyBps,
            since: i.since,
            bond: i.bond,
            imageId: d.imageId,
            manifestHash: d.manifestHash,
            version: d.version,
            parent: d.parent,
            parentBps: d.parentBps,
            depth: d.depth,
            recipients: d.recipients
        });
    }

    /// @inheritdoc IImageMarketplace
    function lastSeq() external view returns (uint32) {
        return _storage().lastSeq;
    }

    /// @inheritdoc IImageMarketplace
    function rating(uint32 seq) external view returns (uint64, uint64, uint32) {
        Ratings memory r = _storage().ratings[seq];
        uint256 period = _periodNow();
        // At most 2^32 ratings of weight 16 with 5 stars: below 2^56 in 1/65,536.
        return
            (
                uint64((uint256(r.weightSum) << 16) >> period),
                uint64((uint256(r.weightedStars) << 16) >> period),
                r.count
            );
    }

    /// @inheritdoc IImageMarketplace
    function weightsOf(uint32 seq) external view returns (uint104, uint104, uint32) {
        Ratings memory r = _storage().ratings[seq];
        return (r.weightSum, r.weightedStars, r.count);
    }

    /// @inheritdoc IImageMarketplace
    function ratingOf(uint32 seq, address payer) external view returns (RatingView memory) {
        return _storage().ratingOf[seq][payer];
    }

    /// @inheritdoc IImageMarketplace
    function usdUnit(uint8 token) external view returns (uint128) {
        return _storage().usdUnits[token];
    }

    /// @inheritdoc IImageMarketplace
    function bondOfNew() public view returns (uint16) {
        return uint16(_base().params);
    }

    /// @inheritdoc IImageMarketplace
    function verdictDigest(uint32 seq, bytes32 reason) public view returns (bytes32) {
        bytes32 imageId = _decode(CodeStore.read(_known(seq).detail)).imageId;
        return _hashTypedDataV4(keccak256(abi.encode(TypeHashes.TAKEDOWN, seq, imageId, reason)));
    }

    /* INTERNAL: PUBLISHING */

    /// @dev The terms fit the model and stay below the bounds.
    function _checkTerms(Listing calldata l) private view {
        if (l.imageId == 0 || l.manifestHash == 0) revert AlephErrors.ZeroHash();
        if (l.royaltyBps > _MAX_ROYALTY) revert RoyaltyTooHigh(l.royaltyBps);
        bool priced = l.model == Model.Flat || l.model == Model.OneTime;
        if ((l.royaltyBps != 0) != (l.model == Model.Royalty) || (l.price != 0) != priced || (l.token != 0) != priced) {
            revert BadTerms(l.model);
        }
        if (!priced) return;
        if (l.price > _MAX_PRICE) revert AlephErrors.OutOfBounds(l.price, 1, _MAX_PRICE);
        if (!IPaymentManager(PAYMENTS).tokenOf(l.token).enabled) revert IPaymentManager.TokenDisabled(l.token);
    }

    /// @dev The first version of a listing, with its recipients and those of its ancestors in one list.
    function _detailOf(Listing calldata l) private view returns (Detail memory d) {
        Detail memory parent;
        if (l.parentBps > _MAX_PARENT || (l.parent == 0 && l.parentBps != 0)) {
            revert AlephErrors.OutOfBounds(l.parentBps, 0, l.parent == 0 ? 0 : _MAX_PARENT);
        }
        if (l.parent != 0) {
            Image storage p = _known(l.parent);
            if (!_isUsable(p.status)) revert ImageNotUsable(l.parent, p.status);
            parent = _decode(CodeStore.read(p.detail));
            if (parent.depth == _MAX_DEPTH) revert TooDeep(l.parent);
        }
        (d.imageId, d.manifestHash, d.version) = (l.imageId, l.manifestHash, 1);
        (d.parent, d.parentBps, d.depth) = (l.parent, l.parentBps, parent.depth + 1);
        d.recipients = _flatten(l.splits, parent.recipients, l.parentBps);
    }

    function _flatten(Split[] calldata splits, Recipient[] memory inherited, uint256 parentBps)
        private
        view
        returns (Recipient[] memory list)
    {
        uint256 own = splits.length;
        if (own > _MAX_SPLITS) revert AlephErrors.OutOfBounds(own, 0, _MAX_SPLITS);
        uint256 each = (_BPS - parentBps) * (_WHOLE / _BPS / _BPS);
        uint256 from = parentBps == 0 ? 0 : inherited.length;
        list = new Recipient[]((own == 0 ? 1 : own) + from);
        if (own == 0) list[0] = Recipient(msg.sender, uint40(each * _BPS));
        uint256 sum = own == 0 ? _BPS : 0;
        for (uint256 i; i < own; ++i) {
            if (splits[i].recipient == address(0)) revert AlephErrors.ZeroAddress();
            if (splits[i].bps == 0) revert BadSplit(0);
            sum += splits[i].bps;
            list[i] = Recipient(splits[i].recipient, uint40(each * splits[i].bps));
        }
        if (sum != _BPS) revert BadSplit(sum);
        own = list.length - from;
        for (uint256 i; i < from; ++i) {
            list[own + i] = Recipient(inherited[i].recipient, uint40(inherited[i].part * parentBps / _BPS));
        }
    }

    /* INTERNAL: RATINGS */

    /// @dev What a rating of the caller counts: the caller paid for the job and has nothing from it.
    function _weigh(uint32 seq, bytes32 spec) private view returns (uint8) {
        Image storage i = _known(seq);
        IJobManager.JobView memory j = IJobManager(JOBS).job(spec);
        if (j.payer != msg.sender) revert NotPayer(spec, msg.sender);
        if (j.imageSeq != seq) revert WrongImage(j.imageSeq, seq);
        uint256 ran = _ran(j);
        if (ran < _MIN_RUN) revert TooEarly(ran, _MIN_RUN);
        if (!_isPaid(j)) revert NotPaid(spec);
        if (_earns(i)) revert SelfRating(msg.sender);
        uint256 unit = _storage().usdUnits[j.token];
        if (unit == 0) revert NoUsdUnit(j.token);
        uint256 spent = Q32.floorWei(j.rateQ32, ran);
        if (spent < unit) revert AlephErrors.Insufficient(spent, unit);
        return uint8(Math.min(Math.log2(1 + spent / unit), _MAX_WEIGHT));
    }

    /// @dev The seconds a job has run; 0 when it never did or is between two nodes.
    function _ran(IJobManager.JobView memory j) private view returns (uint256) {
        if (j.startedAt == 0) return 0;
        if (j.status == IJobManager.Status.Running) return block.timestamp - j.startedAt;
        bool ended = j.status == IJobManager.Status.Stopped || j.status == IJobManager.Status.Completed
            || j.status == IJobManager.Status.Failed || j.status == IJobManager.Status.Expired;
        return ended ? j.changedAt - j.startedAt : 0;
    }

    /// @dev Whether the payer owes nothing in the job's token: a rating costs real money.
    function _isPaid(IJobManager.JobView memory j) private view returns (bool) {
        IPaymentManager.AccountView memory a = IPaymentManager(PAYMENTS).account(j.payer, j.token);
        return a.debts == 0 && (j.status != IJobManager.Status.Running || a.paidUntil >= block.timestamp);
    }

    /// @dev Whether the caller has something from the image.
    function _earns(Image storage i) private view returns (bool) {
        if (i.publisher == msg.sender) return true;
        bytes memory detail = CodeStore.read(i.detail);
        uint256 n = _count(detail);
        for (uint256 k; k < n; ++k) {
            (address recipient,) = _entry(detail, k);
            if (recipient == msg.sender) return true;
        }
        return false;
    }

    function _periodNow() private view returns (uint256) {
        uint256 period = block.timestamp / _PERIOD;
        if (period < _FIRST_PERIOD) return 0;
        return Math.min(period - _FIRST_PERIOD, _LAST_PERIOD);
    }

    /* INTERNAL: STATE */

    /// @dev Moves an image to another status, the only place that does.
    function _advance(uint32 seq, Image storage i, Status to) private {
        emit ImageStatus(seq, i.status, to);
        i.status = to;
    }

    function _setBond(uint16 bond) private {
        _base().params = bond;
        emit BondSet(bond);
    }

    function _isUsable(Status status) private pure returns (bool) {
        return status == Status.Published || status == Status.Deprecated;
    }

    function _isPaying(uint32 seq) private view returns (bool) {
        Status status = _storage().images[seq].status;
        return status != Status.None && status != Status.TakenDown;
    }

    function _quote(uint32 seq, uint8 token, uint128 computeRateQ32)
        private
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once)
    {
        Image storage i = _storage().images[seq];
        Model model = i.model;
        payee = Payees.ofImage(seq);
        if (model == Model.Free) return (payee, 0, 0);
        // Below the rate of the machine.
        if (model == Model.Royalty) return (payee, uint128(uint256(computeRateQ32) * i.royaltyBps / _BPS), 0);
        if (token != i.token) revert WrongToken(token, i.token);
        if (model == Model.Flat) extraRateQ32 = i.price;
        else once = i.price;
    }

    function _checkTakenDown(Image storage i) private view {
        if (i.status != Status.TakenDown) revert AlephErrors.BadState(uint8(i.status), uint8(Status.TakenDown));
    }

    function _known(uint32 seq) private view returns (Image storage i) {
        i = _storage().images[seq];
        if (i.status == Status.None) revert UnknownImage(seq);
    }

    /// @dev The image, when the caller publishes it and it has not ended.
    function _published(uint32 seq) private view returns (Image storage i) {
        i = _known(seq);
        if (i.publisher != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (i.status >= Status.Removed) revert ImageNotUsable(seq, i.status);
    }

    /* INTERNAL: DETAILS */

    /// @dev _HEAD bytes, then _ENTRY for each recipient.
    function _encode(Detail memory d) private pure returns (bytes memory data) {
        uint256 n = d.recipients.length;
        // The last word goes beyond the end, which is put right afterwards.
        data = new bytes(_HEAD + _ENTRY * n + 32);
        _put(data, 0, uint256(d.imageId));
        _put(data, 32, uint256(d.manifestHash));
        uint256 rest = uint256(d.version) << 224 | uint256(d.parent) << 192;
        _put(data, 64, rest | uint256(d.parentBps) << 176 | uint256(d.depth) << 168);
        for (uint256 i; i < n; ++i) {
            Recipient memory r = d.recipients[i];
            _put(data, _HEAD + _ENTRY * i, uint256(uint160(r.recipient)) << 96 | uint256(r.part) << 56);
        }
        assembly ("memory-safe") {
            mstore(data, sub(mload(data), 32))
        }
    }

    function _decode(bytes memory data) private pure returns (Detail memory d) {
        d.imageId = bytes32(_word(data, 0));
        d.manifestHash = bytes32(_word(data, 32));
        uint256 rest = _word(data, 64);
        (d.version, d.parent) = (uint32(rest >> 224), uint32(rest >> 192));
        (d.parentBps, d.depth) = (uint16(rest >> 176), uint8(rest >> 168));
        d.recipients = new Recipient[](_count(data));
        for (uint256 i; i < d.recipients.length; ++i) {
            (address recipient, uint256 part) = _entry(data, i);
            (d.recipients[i].recipient, d.recipients[i].part) = (recipient, uint40(part));
        }
    }

    function _count(bytes memory data) private pure returns (uint256) {
        return (data.length - _HEAD) / _ENTRY;
    }

    /// @dev The i-th recipient and its part.
    function _entry(bytes memory data, uint256 i) private pure returns (address, uint256) {
        uint256 word = _word(data, _HEAD + _ENTRY * i);
        return (address(uint160(word >> 96)), uint40(word >> 56));
    }

    /// @dev The 32 bytes from `offset` on. Those behind the end are of no use to the caller.
    function _word(bytes memory data, uint256 offset) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), offset))
        }
    }

    /// @dev Writes 32 bytes from `offset` on, which are inside of `data`.
    function _put(bytes memory data, uint256 offset, uint256 word) private pure {
        assembly ("memory-safe") {
            mstore(add(add(data, 0x20), offset), word)
        }
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephImages";
    }

    function _storage() private pure returns (ImageMarketplaceStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
